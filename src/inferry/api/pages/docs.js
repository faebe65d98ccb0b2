'use strict';
const element = (name, text, kind) => {
  const made = document.createElement(name);
  if (text) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const resolve = (api, schema, seen) => {
  if (!schema || typeof schema !== 'object') return schema;
  if (Array.isArray(schema)) return schema.map((one) => resolve(api, one, seen));
  if (schema.$ref) {
    const name = schema.$ref.split('/').pop();
    if (seen.includes(name)) return { $ref: name };
    return resolve(api, api.components.schemas[name], [...seen, name]);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, one]) => [key, resolve(api, one, seen)]));
};
const schemaOf = (content) => content && content['application/json'] && content['application/json'].schema;
const show = (api, path, method, call) => {
  const details = element('details');
  const summary = element('summary');
  summary.append(element('span', method.toUpperCase(), 'method'), element('code', path), ` ${call.summary}`);
  details.append(summary);
  if (call.description) details.append(element('p', call.description));
  details.append(element('p', `Parameters: ${call.parameters.map((one) => one.name).join(', ')}`));
  details.addEventListener('toggle', () => {
    if (!details.open || details.dataset.filled) return;
    details.dataset.filled = 'yes';
    const bodies = [['Body', call.requestBody && call.requestBody.content], ['Answer', call.responses['200'].content]];
    for (const [title, content] of bodies) {
      const schema = schemaOf(content);
      if (!schema) continue;
      details.append(element('h3', title), element('pre', JSON.stringify(resolve(api, schema, []), null, 2)));
    }
  });
  return details;
};
const start = async () => {
  const state = document.getElementById('state');
  const reply = await fetch('/openapi.json', { credentials: 'include' });
  if (!reply.ok) {
    state.textContent = `/openapi.json answers ${reply.status}: it needs credentials with the privilege monitor.`;
    return;
  }
  const api = await reply.json();
  const calls = document.getElementById('calls');
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, call] of Object.entries(methods)) calls.append(show(api, path, method, call));
  }
  state.textContent = `${api.info.title} ${api.info.version}, ${calls.children.length} calls`;
  document.getElementById('wanted').addEventListener('input', (event) => {
    for (const one of calls.children) one.hidden = !one.textContent.includes(event.target.value);
  });
};
start();
