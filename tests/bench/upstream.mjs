// A canned MCP server of both revisions that costs next to nothing: what is measured is the proxy in front of it.
// node upstream.mjs COUNT [TOOLS [personal]]: COUNT servers on free ports, printed one URL a line. Personal ones want a
// token PERSON-..., and show one tool more that is this person's.
import http from 'node:http';

const [count, toolCount] = [Number(process.argv[2] ?? 1), Number(process.argv[3] ?? 10)];
const tools = Array.from({length: toolCount}, (_, i) => ({
  name: `tool_${i}`,
  description: `Tool number ${i}, one of many that do one thing each and are described in a sentence.`,
  inputSchema: {
    type: 'object',
    properties: {query: {type: 'string', description: 'What to look for'}, limit: {type: 'integer', minimum: 1}},
    required: ['query'],
  },
}));
const text = 'x'.repeat(120);
const personal = process.argv[4] === 'personal';
const personOf = (request) => /^Bearer (\w+)-/.exec(request.headers.authorization ?? '')?.[1];
const listFor = (person) => (person ? [{...tools[0], name: `of_${person}`}, ...tools.slice(1)] : tools);

function resultOf({method, params}, stateless, person) {
  const extra = stateless ? {resultType: 'complete'} : {};
  switch (method) {
    case 'server/discover':
      return {...extra, supportedVersions: ['2026-07-28'], capabilities: {tools: {}}, ttlMs: 60000, cacheScope: 'public'};
    case 'initialize':
      return {protocolVersion: params.protocolVersion, capabilities: {tools: {}}, serverInfo: {name: 'canned', version: '1'}};
    case 'tools/list':
      return {...extra, tools: listFor(person), ...(stateless ? {ttlMs: 60000, cacheScope: 'public'} : {})};
    case 'tools/call':
      return {...extra, content: [{type: 'text', text}]};
  }
}

function answer(request, response, body) {
  const message = JSON.parse(body);
  if (message.id === undefined) return response.writeHead(202).end();
  const person = personal ? personOf(request) : undefined;
  if (personal && !person) return response.writeHead(401, {'www-authenticate': 'Bearer'}).end();
  const result = resultOf(message, request.headers['mcp-protocol-version'] === '2026-07-28', person);
  const found = result ? {result} : {error: {code: -32601, message: 'Method not found'}};
  const text = JSON.stringify({jsonrpc: '2.0', id: message.id, ...found});
  response.writeHead(200, {'content-type': 'application/json', 'content-length': Buffer.byteLength(text)}).end(text);
}

for (let i = 0; i < count; i++) {
  const server = http.createServer((request, response) => {
    if (request.method !== 'POST') return response.writeHead(405).end();
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => answer(request, response, Buffer.concat(chunks)));
  });
  server.keepAliveTimeout = 60000;
  server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/mcp`));
}
