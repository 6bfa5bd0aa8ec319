// A scripted MCP server for a crowd: everything it says repeats whose call it is about. Costs next to nothing.
// node crowd.mjs newer|older|program [mute]: 2026-07-28 and 2025-11-25 over HTTP ("listening URL"), 2026-07-28 over stdio.
// A mute one has no streams for what changes between calls.
// Tools: `work` does what its arguments say (owner, pause, steps, asks, touches); `census` tells what is under way.
import http from 'node:http';
import { createInterface } from 'node:readline';

const META = 'io.modelcontextprotocol/';
const [kind, mute] = process.argv.slice(2);
const stateless = kind !== 'older';
const running = new Set(), listeners = new Set(), sessions = new Map();
const count = { calls: 0, answers: 0, cancelled: 0, wrong: 0, running: 0, listeners: 0, sessions: 0 };
let made = 0;

const notice = (method, params) => ({ jsonrpc: '2.0', method, params });
const said = (text, isError = false) => ({ ...(stateless && { resultType: 'complete' }), content: [{ type: 'text', text }], isError });
const form = (owner) => ({ mode: 'form', message: owner, requestedSchema: { type: 'object', properties: { of: { type: 'string' } } } });
const pause = (call, time) => new Promise((done) => { call.wake = done; call.timer = setTimeout(done, time); });

// One call: `say` sends a message to its client, `ask` a question (older revisions only).
async function work(call, { arguments: given, _meta: meta = {}, inputResponses, requestState }, { say, ask }) {
  const { owner, pause: time, steps, asks, touches } = given;
  const wrong = (what) => { count.wrong++; return said(`${what}, and it is ${owner}`, true); };
  for (let step = 1; step <= steps; step++) {
    await pause(call, time / steps);
    if (call.gone) return;
    if ('progressToken' in meta) say(notice('notifications/progress', { progressToken: meta.progressToken, progress: step, message: owner }));
    if (kind !== 'program') say(notice('notifications/message', { level: 'info', data: owner }));
  }
  if (asks && stateless && !inputResponses) {
    return { resultType: 'input_required', inputRequests: { k: { method: 'elicitation/create', params: form(owner) } }, requestState: owner };
  }
  if (asks) {
    const { result: answer, error } = stateless ? { result: inputResponses.k } : (await ask(form(owner))) ?? {};
    if (call.gone) return;
    if (error) return said('nobody answers', true);
    count.answers++;
    if (stateless && requestState !== owner) return wrong(`the state is ${requestState}`);
    if (answer?.content?.of !== owner) return wrong(`the answer is ${JSON.stringify(answer)}`);
  }
  if (touches) for (const tell of [...listeners]) tell(`${kind}://${owner}`);
  return said(JSON.stringify({ owner, account: call.account }));
}

async function answer({ method, params = {} }, call, speak) {
  const fresh = stateless ? { resultType: 'complete', ttlMs: 600000, cacheScope: 'public' } : {};
  const capabilities = { tools: {}, ...(kind !== 'program' && { logging: {}, resources: { subscribe: true } }) };
  switch (method) {
    case 'server/discover':
      return stateless && { ...fresh, supportedVersions: ['2026-07-28'], capabilities };
    case 'tools/list':
      return { ...fresh, tools: ['work', 'census'].map((name) => ({ name, inputSchema: { type: 'object' } })) };
    case 'resources/templates/list':
      return { ...fresh, resourceTemplates: [{ uriTemplate: `${kind}://{+owner}`, name: 'work' }] };
    case 'resources/list':
      return { ...fresh, resources: [] };
    case 'tools/call':
      if (params.name === 'census') {
        return said(JSON.stringify({ ...count, running: running.size, listeners: listeners.size, sessions: sessions.size }));
      }
      count.calls++;
      running.add(call);
      try { return await work(call, params, speak); } finally { running.delete(call); }
  }
}

function cancel(call) {
  if (call?.gone !== false) return;
  call.gone = true;
  if (running.has(call)) count.cancelled++;
  clearTimeout(call.timer);
  call.wake?.();
}

const refusal = (id) => ({ jsonrpc: '2.0', id, error: { code: -32601, message: 'Method not found' } });

function openStream(response, headers = {}) {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream', ...headers });
}

function send(response, message) {
  openStream(response);
  response.write(`data: ${JSON.stringify(message)}\n\n`);
}

function finish(response, status, message, headers = {}) {
  if (response.headersSent) return response.end(message && `data: ${JSON.stringify(message)}\n\n`);
  const text = message ? JSON.stringify(message) : '';
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...headers }).end(text);
}

function listen(response, wanted, tag) {
  const tell = (uri) => { if (wanted.has(uri)) send(response, notice('notifications/resources/updated', { uri, ...tag })); };
  listeners.add(tell);
  response.on('close', () => listeners.delete(tell));
}

// A session belongs to the account that began it, and counts its questions from 0, as real servers do.
function sessionOf(request, response, account) {
  const session = sessions.get(request.headers['mcp-session-id']);
  if (session && session.account === account) return session;
  if (session) count.wrong++;
  finish(response, 404);
}

async function respond(request, response, body) {
  const account = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  if (kind === 'older' && !account) return response.writeHead(401, { 'www-authenticate': 'Bearer' }).end();
  const message = body && JSON.parse(body);
  if (!stateless && message?.method === 'server/discover') return finish(response, 400, refusal(message.id));
  if (!stateless && message?.method === 'initialize') {
    const id = `s${++made}`;
    sessions.set(id, { account, id, questions: 0, waiting: new Map(), calls: new Map(), subscribed: new Set(), streams: new Set() });
    const result = { protocolVersion: '2025-11-25', capabilities: { tools: {}, logging: {}, resources: { subscribe: true } }, serverInfo: { name: kind, version: '1' } };
    return finish(response, 200, { jsonrpc: '2.0', id: message.id, result }, { 'mcp-session-id': id });
  }
  const session = stateless ? undefined : sessionOf(request, response, account);
  if (!stateless && !session) return;
  if (request.method === 'DELETE') {
    sessions.delete(session.id);
    for (const stream of session.streams) stream.end();
    return finish(response, 204);
  }
  if (request.method === 'GET') {
    if (stateless || mute) return response.writeHead(405).end();
    session.streams.add(response);
    response.on('close', () => session.streams.delete(response));
    openStream(response);
    response.flushHeaders();
    return listen(response, session.subscribed, {});
  }
  if (message.method === 'subscriptions/listen') {
    const wanted = message.params.notifications, tag = { _meta: { [`${META}subscriptionId`]: message.id } };
    send(response, notice('notifications/subscriptions/acknowledged', { notifications: wanted, ...tag }));
    return listen(response, new Set(wanted.resourceSubscriptions), tag);
  }
  if (message.id === undefined || !message.method) {
    if (message.method === 'notifications/cancelled') cancel(session?.calls.get(message.params.requestId));
    if (!message.method) session?.waiting.get(message.id)?.(message);
    return finish(response, 202);
  }
  if (message.method === 'resources/subscribe' || message.method === 'resources/unsubscribe') {
    session.subscribed[message.method.endsWith('/subscribe') ? 'add' : 'delete'](message.params.uri);
    return finish(response, 200, { jsonrpc: '2.0', id: message.id, result: {} });
  }
  const call = { gone: false, account };
  session?.calls.set(message.id, call);
  if (stateless) response.on('close', () => cancel(call));
  const ask = (params) => new Promise((done) => {
    const id = session.questions++;
    call.wake = done;
    session.waiting.set(id, (answer) => { session.waiting.delete(id); done(answer); });
    send(response, { jsonrpc: '2.0', id, method: 'elicitation/create', params });
  });
  const result = await answer(message, call, { say: (one) => send(response, one), ask });
  session?.calls.delete(message.id);
  if (call.gone) return response.end();
  finish(response, result ? 200 : 404, result ? { jsonrpc: '2.0', id: message.id, result } : refusal(message.id));
}

if (kind === 'program') {
  const write = (message) => process.stdout.write(JSON.stringify(message) + '\n');
  const calls = new Map();
  createInterface({ input: process.stdin }).on('line', async (line) => {
    const message = JSON.parse(line);
    if (message.method === 'notifications/cancelled') return cancel(calls.get(message.params.requestId));
    if (message.id === undefined) return;
    const call = { gone: false };
    calls.set(message.id, call);
    const result = await answer(message, call, { say: write });
    calls.delete(message.id);
    if (!call.gone) write(result ? { jsonrpc: '2.0', id: message.id, result } : refusal(message.id));
  }).on('close', () => process.exit());
} else {
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => respond(request, response, Buffer.concat(chunks).toString()));
  });
  server.keepAliveTimeout = 60000;
  server.listen(0, '127.0.0.1', 4096, () => console.log(`listening http://127.0.0.1:${server.address().port}/mcp`));
}
