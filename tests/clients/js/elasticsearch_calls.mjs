// Every call of the Inference API through an unmodified `@elastic/elasticsearch` client:
// URL API_KEY PROVIDER_URL. Prints what the client made of each answer as one JSON object.
import { Client, errors } from '@elastic/elasticsearch'

const [url, apiKey, provider] = process.argv.slice(2)
const EMBED = 'js-embed'
const WRITE = 'js-write'
const CHAT = 'js-chat'

process.on('warning', (warning) => {
  console.error(warning)
  process.exitCode = 1
})

const settings = (route) => ({
  api_key: 'sk-test', model_id: 'model-1', url: `${provider}/v1/${route}`
})

async function refusal (call) {
  try {
    await call()
  } catch (error) {
    if (!(error instanceof errors.ResponseError)) throw error
    return { status: error.statusCode, type: error.body.error.type, body: error.body }
  }
  throw new Error('it was not refused')
}

async function text (stream) {
  let all = ''
  for await (const part of stream) all += part.toString()
  return all
}

const client = new Client({ node: url, auth: { apiKey }, maxRetries: 0 })
client.diagnostic.on('response', (error, result) => {
  if (result?.warnings?.length) {
    console.error(result.warnings, error)
    process.exitCode = 1
  }
})
const inference = client.inference
const seen = {}

seen.ping = await client.ping()
seen.info = await client.info()
seen.put = await inference.put({
  task_type: 'text_embedding',
  inference_id: EMBED,
  inference_config: { service: 'openai', service_settings: settings('embeddings') }
})
seen.putOpenai = await inference.putOpenai({
  task_type: 'completion',
  openai_inference_id: WRITE,
  service: 'openai',
  service_settings: settings('chat/completions')
})
await inference.putOpenai({
  task_type: 'chat_completion',
  openai_inference_id: CHAT,
  service: 'openai',
  service_settings: settings('chat/completions')
})

seen.get = {
  none: await inference.get(),
  all: await inference.get({ inference_id: '_all' }),
  id: await inference.get({ inference_id: EMBED }),
  'task and all': await inference.get({ task_type: 'text_embedding', inference_id: '_all' }),
  'task and id': await inference.get({ task_type: 'text_embedding', inference_id: EMBED })
}
seen.getNowhere = await refusal(() => inference.get({ inference_id: 'js-nowhere' }))

seen.inference = await inference.inference({ inference_id: EMBED, input: ['a', 'b'] })
seen.textEmbedding = await inference.textEmbedding({ inference_id: EMBED, input: 'a' })
seen.completion = await inference.completion({ inference_id: WRITE, input: 'hello' })

seen.streamCompletion = await text(
  await inference.streamCompletion({ inference_id: WRITE, input: 'hello' }, { asStream: true })
)
const asked = { inference_id: CHAT, chat_completion_request: { messages: [{ role: 'user', content: 'hello' }] } }
seen.chat = await text(await inference.chatCompletionUnified(asked, { asStream: true }))

seen.update = await inference.update({
  inference_id: EMBED, inference_config: { task_settings: { user: 'ada' } }
})
seen.dryDelete = await inference.delete({ inference_id: EMBED, dry_run: true })
seen.delete = await inference.delete({ inference_id: EMBED, force: true })
seen.typedDelete = await inference.delete({ task_type: 'completion', inference_id: WRITE })
await inference.delete({ inference_id: CHAT })
await client.close()
console.log(JSON.stringify(seen))
