// Preloaded into servers that listen without naming a host: they then listen on loopback only.
import net from 'node:net';

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (first, ...rest) {
  const port = typeof first === 'number' || /^\d+$/.test(String(first));
  if (port && typeof rest[0] !== 'string') return listen.call(this, first, '127.0.0.1', ...rest);
  if (first !== null && typeof first === 'object' && 'port' in first && !first.host) {
    return listen.call(this, { ...first, host: '127.0.0.1' }, ...rest);
  }
  return listen.call(this, first, ...rest);
};
