// The TypeScript SDK 2.x as a client. Usage: node typescript2.mjs URL [--tool NAME --arguments JSON] [--mode legacy|2026] [--state FILE]
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { connectWithLogin, listAllTools, readAll, readArguments } from './login.mjs';

const asked = readArguments();
const progress = [];
const logs = [];
const client = await connectWithLogin({
  asked, name: 'Scripted TypeScript SDK 2.x', Transport: StreamableHTTPClientTransport, UnauthorizedError,
  makeClient: () => {
    const mode = asked.mode === 'legacy' ? 'legacy' : 'auto';
    const made = new Client({ name: 'typescript2', version: '1.0.0' }, {
      versionNegotiation: { mode }, capabilities: asked.answer ? { elicitation: { form: {} } } : {},
    });
    if (asked.answer) made.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: asked.answer }));
    made.setNotificationHandler('notifications/message', ({ params }) => { logs.push(params.data); });
    return made;
  },
  finish: (transport, answer) => transport.finishAuth(answer),
});
const tools = await listAllTools(client);
const result = asked.tool
  ? await client.callTool({ name: asked.tool, arguments: asked.arguments }, { onprogress: (step) => progress.push(step.progress) })
  : null;
const read = asked.read ? await readAll(client) : null;
console.log(JSON.stringify({ protocol: client.getNegotiatedProtocolVersion(), read, tools, result, progress, logs }));
await client.close();
process.exit(0);
