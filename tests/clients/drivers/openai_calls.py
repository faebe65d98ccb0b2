"""Every call of the OpenAI dialect through an unmodified `openai` client.

Run by the interpreter of the client's own environment: URL API_KEY EMBEDDING_ID CHAT_ID. Prints
what the client made of each answer as one JSON object.
"""

import json
import sys

from openai import AuthenticationError, BadRequestError, NotFoundError, OpenAI

URL, API_KEY, EMBED, CHAT = sys.argv[1:]
HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def refusal(error):
    """Give what the client keeps of an error answer."""
    return {
        "status": error.status_code,
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }


def embeddings(client):
    seen = {}
    default = client.embeddings.create(model=EMBED, input=["a", "b"])  # asks for base64 by itself
    numbers = client.embeddings.create(model=EMBED, input=["a", "b"], encoding_format="float")
    seen["default"] = [one.embedding for one in default.data]
    seen["float"] = [one.embedding for one in numbers.data]
    seen["usage"] = numbers.usage.to_dict()
    try:
        client.embeddings.create(model=EMBED, input=[[1, 2, 3]])
    except BadRequestError as error:
        seen["token ids"] = refusal(error)
    try:
        client.embeddings.create(model="nowhere", input="a")
    except NotFoundError as error:
        seen["nowhere"] = refusal(error)
    return seen


def chat(client):
    seen = {}
    answer = client.chat.completions.create(model=CHAT, messages=HELLO, seed=7, max_tokens=20)
    seen["whole"] = answer.to_dict()
    stream = client.chat.completions.create(
        model=CHAT, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    seen["chunks"] = [chunk.to_dict() for chunk in stream]
    tools = client.chat.completions.create(model=CHAT, messages=HELLO, tools=[WEATHER])
    message = tools.choices[0].message
    seen["tools"] = message.to_dict()
    history = [*HELLO, message, {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}]
    seen["after tools"] = client.chat.completions.create(model=CHAT, messages=history).to_dict()
    with client.chat.completions.stream(model=CHAT, messages=HELLO, tools=[WEATHER]) as events:
        seen["streamed tools"] = events.get_final_completion().choices[0].message.to_dict()
    return seen


def main():
    client = OpenAI(base_url=f"{URL}/v1", api_key=API_KEY, max_retries=0)
    seen = {"embeddings": embeddings(client), "chat": chat(client)}
    seen["models"] = [model.id for model in client.models.list()]
    seen["model"] = client.models.retrieve(CHAT).to_dict()
    aimed = OpenAI(
        base_url=f"{URL}/_inference/chat_completion/{CHAT}", api_key=API_KEY, max_retries=0
    )
    seen["aimed"] = aimed.chat.completions.create(model=CHAT, messages=HELLO).to_dict()
    stranger = OpenAI(base_url=f"{URL}/v1", api_key="no key", max_retries=0)
    try:
        stranger.models.list()
    except AuthenticationError as error:
        seen["stranger"] = refusal(error)
    for one in (client, aimed, stranger):
        one.close()
    return seen


json.dump(main(), sys.stdout)
