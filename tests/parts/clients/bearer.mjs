// Preloaded into a program that cannot send a bearer token: puts one on every request to one origin, by fetch, undici and
// node:http alike. Usage: BEARER=... BEARER_ORIGIN=http://127.0.0.1:1234 node --import .../bearer.mjs program.js
import http from 'node:http';
import { syncBuiltinESMExports } from 'node:module';
import { Agent, setGlobalDispatcher } from 'undici'; // node's own fetch asks the same global dispatcher

const { BEARER, BEARER_ORIGIN } = process.env;
const added = ['authorization', `Bearer ${BEARER}`];

function pairs(headers) {
  if (!headers) return [];
  if (Array.isArray(headers) && !Array.isArray(headers[0])) { // name, value, name, value
    return headers.flatMap((name, at) => (at % 2 ? [] : [[name, headers[at + 1]]]));
  }
  return typeof headers[Symbol.iterator] === 'function' ? [...headers] : Object.entries(headers);
}

const withBearer = (headers) => Object.fromEntries([...pairs(headers), added]);

setGlobalDispatcher(new Agent().compose((dispatch) => (options, respond) => {
  const ours = String(options.origin) === BEARER_ORIGIN;
  return dispatch(ours ? { ...options, headers: withBearer(options.headers) } : options, respond);
}));

const { request } = http;
http.request = (options, ...rest) => {
  const ours = `http://${options.hostname}:${options.port}` === BEARER_ORIGIN;
  return request(ours ? { ...options, headers: withBearer(options.headers) } : options, ...rest);
};
syncBuiltinESMExports();
