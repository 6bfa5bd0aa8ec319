// An OpenID provider for tests: npm oidc-provider with its development pages (login with any password, then consent).
// Usage: node op.mjs '{"port":0,"path":"","redirectUris":[...],"secret":"...","lean":false,"postOnly":false,"clients":[]}'
// Prints "issuer URL" when it listens. Everything is kept in memory.
import http from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const options = JSON.parse(process.argv[2]);
const people = {
  alice: { email: 'alice@example.test', email_verified: true, name: 'Alice A', groups: ['eng', 'admin'] },
  bob: { email: 'bob@example.test', email_verified: false, name: 'Bob B', groups: ['sales'] },
};

const key = (type, how, alg) => ({
  ...generateKeyPairSync(type, how).privateKey.export({ format: 'jwk' }), use: 'sig', alg, kid: `key-${alg}`,
});
const base = {
  redirect_uris: options.redirectUris, grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
};
const confidential = { ...base, client_secret: options.secret };
const clients = [
  ...(options.postOnly ? [] : [{ ...confidential, client_id: 'client-basic' }]),
  { ...confidential, client_id: 'client-post', token_endpoint_auth_method: 'client_secret_post' },
  { ...base, client_id: 'client-public', token_endpoint_auth_method: 'none' },
  ...['PS256', 'ES256', 'EdDSA', 'HS256'].map((alg) => ({
    ...confidential, ...(options.postOnly && { token_endpoint_auth_method: 'client_secret_post' }), client_id: `client-${alg}`, id_token_signed_response_alg: alg,
    ...(alg === 'HS256' && { client_secret: 'x'.repeat(64) }),
  })),
  ...options.clients.map((client) => ({ ...base, ...client })),
];

const server = http.createServer();
server.listen(options.port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}${options.path}`;
  const provider = new Provider(issuer, {
    clients,
    jwks: { keys: [
      key('rsa', { modulusLength: 2048 }, 'RS256'), key('rsa', { modulusLength: 2048 }, 'PS256'),
      key('ec', { namedCurve: 'P-256' }, 'ES256'), key('ed25519', {}, 'EdDSA'),
    ] },
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
    conformIdTokenClaims: options.lean,
    cookies: { keys: ['only-for-tests'] },
    ...(options.refreshTokens && { issueRefreshToken: async () => true }),
    ...(options.postOnly && { clientAuthMethods: ['client_secret_post', 'none'] }),
    ...(options.resources && { scopes: ['openid', 'offline_access', 'mcp:read', 'mcp:write'] }),
    features: {
      devInteractions: { enabled: true },
      ...(options.resources && {
        registration: { enabled: true }, revocation: { enabled: true },
        resourceIndicators: { // RFC 8707: a JWT for the resource that was asked for, and for no other
          enabled: true,
          useGrantedResource: () => true,
          getResourceServerInfo: (_, resource) => ({
            scope: 'mcp:read mcp:write', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
          }),
        },
      }),
    },
    async findAccount(_, id) {
      return { accountId: id, claims: async () => ({ sub: id, ...(people[id] ?? { name: id }) }) };
    },
  });
  for (const event of ['server_error', 'authorization.error', 'grant.error']) {
    provider.on(event, (_, error) => console.error(event, error.message, error.error_description ?? ''));
  }
  const answer = provider.callback();
  server.on('request', (request, response) => {
    if (options.path) { // an issuer with a path: everything lives below it
      if (!request.url.startsWith(`${options.path}/`)) return response.writeHead(404).end();
      request.originalUrl = request.url;
      request.url = request.url.slice(options.path.length);
    }
    answer(request, response);
  });
  console.log('issuer', issuer);
});
