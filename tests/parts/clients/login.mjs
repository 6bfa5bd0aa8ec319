// What the scripted TypeScript clients share: the arguments, a redirect listener, an OAuth provider that keeps its state in a file.
import http from 'node:http';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

export function readArguments() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tool: { type: 'string' }, arguments: { type: 'string', default: '{}' },
      mode: { type: 'string', default: '2026' }, answer: { type: 'string' }, read: { type: 'boolean' }, links: { type: 'boolean' }, state: { type: 'string' }, 'metadata-url': { type: 'string' },
    },
  });
  return { ...values, url: new URL(positionals[0]), arguments: JSON.parse(values.arguments),
    answer: values.answer ? JSON.parse(values.answer) : undefined, token: process.env.TOKEN };
}

// The call, again and again until the person has opened the link that error -32042 names.
export async function afterTheLink(call, asked) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      if (!asked.links || error.code !== -32042) throw error;
      console.log('OPEN', error.data.elicitations[0].url);
    }
    await sleep(200); // a person would say when they are back
  }
}

export async function openRedirectListener() {
  const { promise, resolve } = Promise.withResolvers();
  const server = http.createServer((request, response) => {
    response.end('done');
    const url = new URL(request.url, 'http://loopback');
    if (url.pathname === '/callback') resolve(url.searchParams);
  });
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  return { uri: `http://127.0.0.1:${server.address().port}/callback`, answer: promise };
}

export function makeProvider(name, listener, file, clientMetadataUrl) {
  const held = file && existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
  const keep = (field, value) => {
    held[field] = value;
    if (file) writeFileSync(file, JSON.stringify(held));
  };
  let verifier;
  const state = randomUUID();
  return {
    expectedState: state,
    clientMetadataUrl,
    get redirectUrl() { return listener.uri; },
    get clientMetadata() {
      return {
        client_name: name, redirect_uris: [listener.uri], grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'], token_endpoint_auth_method: 'none',
      };
    },
    state: () => state,
    clientInformation: () => held.client,
    saveClientInformation: (client) => keep('client', client),
    tokens: () => held.tokens,
    saveTokens: (tokens) => keep('tokens', tokens),
    codeVerifier: () => verifier,
    saveCodeVerifier: (text) => { verifier = text; },
    redirectToAuthorization: (url) => console.error(`authorize: ${url}`),
  };
}

// Connects; if that needs a login, waits for the redirect, finishes the login and connects again.
export async function connectWithLogin({ asked, name, makeClient, Transport, UnauthorizedError, finish }) {
  const listener = await openRedirectListener();
  const provider = makeProvider(name, listener, asked.state, asked['metadata-url']);
  const options = asked.token
    ? { requestInit: { headers: { Authorization: `Bearer ${asked.token}` } } } : { authProvider: provider };
  let client = makeClient();
  const transport = new Transport(asked.url, options);
  try {
    await client.connect(transport);
    return client;
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
  }
  const answer = await listener.answer;
  if (answer.get('state') !== provider.expectedState) throw new Error('the redirect carries another state');
  await finish(transport, answer);
  client = makeClient();
  await client.connect(new Transport(asked.url, options));
  return client;
}

export async function listAllTools(client) {
  const names = [];
  let cursor;
  do {
    const page = await client.listTools(cursor ? { cursor } : {});
    names.push(...page.tools.map((tool) => tool.name));
    cursor = page.nextCursor;
  } while (cursor);
  return names;
}

// Reads every resource that is listed, and gets the fixtures' simple prompts: published names, and what they led to.
export async function readAll(client) {
  const read = { resources: {}, templates: {}, prompts: {} };
  const readOne = async (uri) => (await client.readResource({ uri })).contents[0].uri;
  for (const { uri } of (await client.listResources()).resources) read.resources[uri] = await readOne(uri);
  for (const { uriTemplate } of (await client.listResourceTemplates()).resourceTemplates) {
    read.templates[uriTemplate] = await readOne(uriTemplate.replace('{id}', '7'));
  }
  for (const prompt of (await client.listPrompts()).prompts) {
    if (prompt.name.endsWith('simple_prompt')) read.prompts[prompt.name] = (await client.getPrompt({ name: prompt.name })).messages.length;
  }
  return read;
}
