// The TypeScript SDK 2.x as a client. Usage: node typescript2.mjs URL [--tool NAME --arguments JSON] [--mode legacy|2026] [--state FILE]
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { afterTheLink, connectWithLogin, listAllTools, readAll, readArguments } from './login.mjs';

const asked = readArguments();
const progress = [];
const logs = [];
const client = await connectWithLogin({
  asked, name: 'Scripted TypeScript SDK 2.x', Transport: StreamableHTTPClientTransport, UnauthorizedError,
  makeClient: () => {
    const mode = asked.mode === 'legacy' ? 'legacy' : 'auto';
    const made = new Client({ name: 'typescript2', version: '1.0.0' }, {
      versionNegotiation: { mode }, capabilities: asked.links ? { elicitation: { url: {} } } : asked.answer ? { elicitation: { form: {} } } : {},
    });
    if (asked.answer) made.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: asked.answer }));
    if (asked.links) made.setRequestHandler('elicitation/create', ({ params }) => {
      console.log('OPEN', params.url);
      return { action: 'accept' };
    });
    made.setNotificationHandler('notifications/message', ({ params }) => { logs.push(params.data); });
    return made;
  },
  finish: (transport, answer) => transport.finishAuth(answer),
});
const tools = await listAllTools(client);
const call = () => client.callTool(
  { name: asked.tool, arguments: asked.arguments }, { onprogress: (step) => progress.push(step.progress) },
);
const result = asked.tool ? await afterTheLink(call, asked) : null;
const read = asked.read ? await readAll(client) : null;
console.log(JSON.stringify({ protocol: client.getNegotiatedProtocolVersion(), read, tools, result, progress, logs }));
await client.close();
process.exit(0);
