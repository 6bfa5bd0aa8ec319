// A server on the TypeScript SDK 2.x. Usage: node typescript2.mjs dual|modern
// Prints "listening URL". dual: 2026-07-28, and older revisions without sessions; modern: 2026-07-28 only.
import http from 'node:http';
import { McpServer, acceptedContent, createMcpHandler, inputRequired } from '@modelcontextprotocol/server';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { z } from 'zod';

const mode = process.argv[2] ?? 'dual';
const text = (words) => ({ content: [{ type: 'text', text: words }] });

function makeServer(context) {
  const server = new McpServer({ name: `typescript2-${mode}`, version: '1.0.0' }, { capabilities: { tools: {} } });
  server.registerTool('echo', { description: 'Says it again', inputSchema: z.object({ message: z.string() }) },
    async ({ message }) => text(`Echo: ${message}`));
  server.registerTool('add', {
    description: 'Adds two numbers', inputSchema: z.object({ a: z.number(), b: z.number() }),
    outputSchema: z.object({ sum: z.number() }),
  }, async ({ a, b }) => ({ ...text(String(a + b)), structuredContent: { sum: a + b } }));
  server.registerTool('era', { description: 'Tells which revision served this', inputSchema: z.object({}) },
    async () => text(String(context.era)));
  const form = z.object({ name: z.string() });
  server.registerTool('ask', { description: 'Asks for a name, then greets', inputSchema: z.object({}) }, async (_, { mcpReq }) => {
    const given = acceptedContent(mcpReq.inputResponses, 'name', form);
    if (given) return text(`Hello, ${given.name}!`);
    return inputRequired({ inputRequests: { name: inputRequired.elicit({ message: 'What is your name?', requestedSchema: form }) } });
  });
  server.registerTool('fail', { description: 'Always fails', inputSchema: z.object({}) },
    async () => ({ ...text('it failed, as asked'), isError: true }));
  return server;
}

const handle = toNodeHandler(createMcpHandler(makeServer, { legacy: mode === 'modern' ? 'reject' : 'stateless' }));
const server = http.createServer((request, response) => {
  if (new URL(request.url, 'http://loopback').pathname === '/mcp') handle(request, response);
  else response.writeHead(404).end();
});
server.listen(0, '127.0.0.1', () => console.log(`listening http://127.0.0.1:${server.address().port}/mcp`));
