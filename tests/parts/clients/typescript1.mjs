// The TypeScript SDK 1.x as a client. Usage: node typescript1.mjs URL [--tool NAME --arguments JSON] [--state FILE]
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { UnauthorizedError } from '@modelcontextprotocol/sdk/client/auth.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema, LoggingMessageNotificationSchema } from '@modelcontextprotocol/sdk/types.js';
import { connectWithLogin, listAllTools, readAll, readArguments } from './login.mjs';

const asked = readArguments();
const progress = [];
const logs = [];
let protocol;
class Transport extends StreamableHTTPClientTransport {
  setProtocolVersion(version) { protocol = version; super.setProtocolVersion(version); }
}
const client = await connectWithLogin({
  asked, name: 'Scripted TypeScript SDK 1.x', Transport, UnauthorizedError,
  makeClient: () => {
    const made = new Client({ name: 'typescript1', version: '1.0.0' }, { capabilities: asked.answer ? { elicitation: {} } : {} });
    if (asked.answer) made.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: asked.answer }));
    made.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) => { logs.push(params.data); });
    return made;
  },
  finish: (transport, answer) => transport.finishAuth(answer.get('code')),
});
const tools = await listAllTools(client);
const result = asked.tool
  ? await client.callTool({ name: asked.tool, arguments: asked.arguments }, undefined, {
    onprogress: (step) => progress.push(step.progress),
  }) : null;
const read = asked.read ? await readAll(client) : null;
console.log(JSON.stringify({ protocol, read, tools, result, progress, logs }));
await client.close();
process.exit(0);
