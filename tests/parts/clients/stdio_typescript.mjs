// The TypeScript SDK, 1.x or 2.x, as a client that starts its server. Usage: node stdio_typescript.mjs 1|2 MODE TOOL ARGUMENTS COMMAND...
import { listAllTools } from './login.mjs';

const [sdk, mode, tool, parameters, command, ...args] = process.argv.slice(2);
const env = process.env;
let client;
let protocol;
if (sdk === '1') {
  const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
  const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js');
  client = new Client({ name: 'typescript1', version: '1.0.0' }, { capabilities: {} });
  const transport = new StdioClientTransport({ command, args, env, stderr: 'inherit' });
  transport.setProtocolVersion = (version) => { protocol = version; };
  await client.connect(transport);
} else {
  const { Client } = await import('@modelcontextprotocol/client');
  const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio');
  client = new Client({ name: 'typescript2', version: '1.0.0' }, {
    versionNegotiation: { mode: mode === 'legacy' ? 'legacy' : 'auto' }, capabilities: {},
  });
  await client.connect(new StdioClientTransport({ command, args, env, stderr: 'inherit' }));
  protocol = client.getNegotiatedProtocolVersion();
}
const needed = (process.env.NEEDED ?? '').split(' ').filter(Boolean);
let tools = await listAllTools(client);
while (!needed.every((name) => tools.includes(name))) { // on a slow machine some come late
  await new Promise((done) => setTimeout(done, 300));
  tools = await listAllTools(client);
}
const result = await client.callTool({ name: tool, arguments: JSON.parse(parameters) });
console.log(JSON.stringify({ protocol, tools, result }));
await client.close();
process.exit(0);
