"""Every call of the Inference API through an unmodified `elasticsearch` client.

Run by the interpreter of the client's own environment: URL API_KEY PROVIDER_URL. Prints what the
client made of each answer as one JSON object; any exception or warning is the test's failure.
"""

import json
import sys

from elasticsearch import BadRequestError, Elasticsearch, NotFoundError

URL, API_KEY, PROVIDER = sys.argv[1:]
EMBED, WRITE = "py-embed", "py-write"
GET_FORMS = {
    "none": {},
    "all": {"inference_id": "_all"},
    "id": {"inference_id": EMBED},
    "task and all": {"task_type": "text_embedding", "inference_id": "_all"},
    "task and id": {"task_type": "text_embedding", "inference_id": EMBED},
}


def settings(route):
    """Give the service settings of an endpoint at the loopback provider."""
    return {"api_key": "sk-test", "model_id": "model-1", "url": f"{PROVIDER}/v1/{route}"}


def refusal(error):
    """Give what the client keeps of an error answer."""
    return {"status": error.status_code, "type": error.error, "body": error.body}


def deployment(ml):
    """Start the demo model, clear what is kept of its answers, and stop it."""
    ml.start_trained_model_deployment(
        model_id=".all-minilm-l6-v2", deployment_id="py-model", wait_for="started", timeout="60s"
    )
    seen = {"clear": ml.clear_trained_model_deployment_cache(model_id="py-model").body}
    seen["stop"] = ml.stop_trained_model_deployment(model_id="py-model").body
    try:
        ml.clear_trained_model_deployment_cache(model_id="py-model")
    except NotFoundError as error:
        seen["clear again"] = refusal(error)
    return seen


def main():
    client = Elasticsearch(URL, api_key=API_KEY)
    inference = client.inference
    seen = {"ping": client.ping(), "info": client.info().body}

    config = {"service": "openai", "service_settings": settings("embeddings")}
    seen["put"] = inference.put(
        task_type="text_embedding", inference_id=EMBED, inference_config=config
    ).body
    seen["put_openai"] = inference.put_openai(
        task_type="completion",
        openai_inference_id=WRITE,
        service="openai",
        service_settings=settings("chat/completions"),
    ).body
    try:
        inference.put(task_type="text_embedding", inference_id=EMBED, inference_config=config)
    except BadRequestError as error:
        seen["put again"] = refusal(error)

    seen["get"] = {form: inference.get(**given).body for form, given in GET_FORMS.items()}
    try:
        inference.get(inference_id="py-nowhere")
    except NotFoundError as error:
        seen["get nowhere"] = refusal(error)

    seen["inference"] = inference.inference(inference_id=EMBED, input=["a", "b"]).body
    seen["typed inference"] = inference.inference(
        task_type="text_embedding", inference_id=EMBED, input="a", input_type="search"
    ).body
    seen["text_embedding"] = inference.text_embedding(
        inference_id=EMBED, input="a", timeout="20s", task_settings={"user": "ada"}
    ).body
    packing = Elasticsearch(URL, api_key=API_KEY, http_compress=True)
    seen["packed"] = packing.inference.text_embedding(
        inference_id=EMBED, input=["a long text " * 200] * 40
    ).body
    seen["completion"] = inference.completion(inference_id=WRITE, input="hello").body

    seen["deployment"] = deployment(client.ml)

    seen["update"] = inference.update(
        inference_id=EMBED, inference_config={"task_settings": {"user": "ada"}}
    ).body
    seen["dry delete"] = inference.delete(inference_id=EMBED, dry_run=True).body
    seen["delete"] = inference.delete(inference_id=EMBED, force=True).body
    seen["typed delete"] = inference.delete(task_type="completion", inference_id=WRITE).body
    packing.close()
    client.close()
    return seen


json.dump(main(), sys.stdout)
