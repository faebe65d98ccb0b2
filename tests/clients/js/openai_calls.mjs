// Every call of the OpenAI dialect through an unmodified `openai` client:
// URL API_KEY EMBEDDING_ID CHAT_ID. Prints what the client made of each answer as one JSON object.
import OpenAI from 'openai'

const [url, apiKey, EMBED, CHAT] = process.argv.slice(2)
const messages = [{ role: 'user', content: 'hello' }]
const weather = {
  type: 'function',
  function: {
    name: 'weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } } }
  }
}

process.on('warning', (warning) => {
  console.error(warning)
  process.exitCode = 1
})

async function refusal (call) {
  try {
    await call()
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error
    const { status, message, type, param, code } = error
    return { status, message, type, param, code }
  }
  throw new Error('it was not refused')
}

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })
const seen = { embeddings: {}, chat: {} }

const byDefault = await client.embeddings.create({ model: EMBED, input: ['a', 'b'] })
const numbers = await client.embeddings.create({
  model: EMBED, input: ['a', 'b'], encoding_format: 'float'
})
seen.embeddings.default = byDefault.data.map((one) => one.embedding)
seen.embeddings.float = numbers.data.map((one) => one.embedding)
seen.embeddings.usage = numbers.usage
seen.embeddings['token ids'] = await refusal(
  () => client.embeddings.create({ model: EMBED, input: [[1, 2, 3]] })
)
seen.embeddings.nowhere = await refusal(
  () => client.embeddings.create({ model: 'nowhere', input: 'a' })
)

seen.chat.whole = await client.chat.completions.create({
  model: CHAT, messages, seed: 7, max_tokens: 20
})
const stream = await client.chat.completions.create({
  model: CHAT, messages, stream: true, stream_options: { include_usage: true }
})
seen.chat.chunks = []
for await (const chunk of stream) seen.chat.chunks.push(chunk)
const answer = await client.chat.completions.create({ model: CHAT, messages, tools: [weather] })
seen.chat.tools = answer.choices[0].message
seen.chat['after tools'] = await client.chat.completions.create({
  model: CHAT,
  messages: [
    ...messages, seen.chat.tools, { role: 'tool', tool_call_id: 'call_1', content: 'sunny' }
  ]
})
const events = client.chat.completions.stream({ model: CHAT, messages, tools: [weather] })
seen.chat['streamed tools'] = (await events.finalChatCompletion()).choices[0].message

seen.models = []
for await (const model of client.models.list()) seen.models.push(model.id)
seen.model = await client.models.retrieve(CHAT)
const aimed = new OpenAI({
  baseURL: `${url}/_inference/chat_completion/${CHAT}`, apiKey, maxRetries: 0
})
seen.aimed = await aimed.chat.completions.create({ model: CHAT, messages })
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'no key', maxRetries: 0 })
seen.stranger = await refusal(() => stranger.models.list())
console.log(JSON.stringify(seen))
