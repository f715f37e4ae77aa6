/** The engine's HTTP interface, on this machine only. */
import { createServer } from 'node:http';
import { toEngineError } from './errors.mjs';
import { execute } from './executor.mjs';
import { log } from './log.mjs';
import { endTransaction, startTransaction } from './transactions.mjs';

/** "localhost" may resolve to either; the IPv6 one may not exist. */
const ADDRESSES = ['127.0.0.1', '::1'];
const LOCAL_HOST = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;

/**
 * @param {import('node:http').IncomingMessage} request
 * @returns {Promise<any>} parsed JSON, or an empty object
 */
async function readJson(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return chunks.length === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

/**
 * @param {import('./database.mjs').Database} database
 * @param {import('node:http').IncomingMessage} request
 * @returns {Promise<object | string | undefined>} undefined: no such address
 */
async function route(database, request) {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
  const describe = (/** @type {unknown} */ error) => describeError(error, database);
  if (request.method === 'GET' && pathname === '/status') return { status: 'ok' };
  if (request.method === 'GET' && pathname === '/metrics') {
    return searchParams.get('format') === 'json' ? { counters: [], gauges: [], histograms: [] } : '';
  }
  if (request.method !== 'POST') return undefined;
  if (pathname === '/') {
    const header = request.headers['x-transaction-id'];
    const transactionId = Array.isArray(header) ? header[0] : header;
    return await execute(database, await readJson(request), transactionId, describe);
  }
  if (pathname === '/transaction/start') {
    return { id: await startTransaction(database.engine, await readJson(request)) };
  }
  const end = /^\/transaction\/([^/]+)\/(commit|rollback)$/.exec(pathname);
  if (!end) return undefined;
  await endTransaction(database.engine, end[2] === 'commit' ? 'commit' : 'rollback', end[1]);
  return {};
}

/**
 * @param {any} error
 * @param {import('./database.mjs').Database} database
 * @returns {object}
 */
function describeError(error, database) {
  const answer = toEngineError(error, database.config);
  const [{ user_facing_error: { error_code: code, meta } }] = /** @type {any} */ (answer).errors;
  // Missing and duplicate records are ordinary answers to a caller, not faults.
  if (!['P2002', 'P2025'].includes(code)) {
    const sqlstate = code === 'P2010' ? meta.code : error?.cause?.originalCode;
    log('query-failed', { code: code ?? error?.name, sqlstate }, error);
  }
  return answer;
}

/**
 * @param {import('./database.mjs').Database} database
 * @returns {import('node:http').RequestListener}
 */
export function createHandler(database) {
  return async (request, response) => {
    const send = (/** @type {number} */ status, /** @type {object | string} */ body) => {
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      const type = typeof body === 'string' ? 'text/plain' : 'application/json';
      response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(text) }).end(text);
    };
    // There is no password on this interface, as on the engine's. A web page on the same machine must not reach it:
    // browsers send Origin with every POST, and a foreign name in Host betrays a rebound one.
    if (request.headers.origin || !LOCAL_HOST.test(request.headers.host ?? '')) return send(403, {});
    try {
      const body = await route(database, request);
      send(body === undefined ? 404 : 200, body ?? {});
    } catch (error) {
      if (error instanceof SyntaxError) return send(400, {});
      // The engine reports failed queries with status 200.
      send(200, describeError(error, database));
    }
  };
}

/**
 * @param {import('node:http').RequestListener} handler
 * @param {number} port
 * @returns {Promise<import('node:http').Server[]>}
 */
export async function listen(handler, port) {
  const servers = [];
  for (const host of ADDRESSES) {
    // The client keeps connections open and would see an error if we closed one just as it sends.
    const server = createServer({ keepAliveTimeout: 3_600_000, requestTimeout: 0, headersTimeout: 0 }, handler);
    try {
      await new Promise((resolve, reject) => {
        server.once('error', reject).listen({ port, host, backlog: 511 }, () => resolve(undefined));
      });
      servers.push(server);
    } catch (error) {
      const { code } = /** @type {NodeJS.ErrnoException} */ (error);
      // No IPv6 here is fine. Somebody else on the port is not: the client might talk to them.
      if (host === '::1' && (code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT')) continue;
      throw error;
    }
  }
  return servers;
}
