/** Errors that say nothing about the query: the database is away, the connection was lost, the pool is full. */

/**
 * @typedef {object} UserFacing
 * @property {string} [code] Prisma's code; absent for database errors Prisma has none for
 * @property {string} message
 * @property {Record<string, unknown>} meta
 */

/** Network trouble on the way to the database. */
const UNREACHABLE = new Set([
  'ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'EHOSTDOWN', 'ETIMEDOUT', 'ENOENT',
]);
const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);
/** pg reports some of this without a code. */
const CLOSED_TEXT = /connection terminated|connection ended|not queryable|has encountered a connection error/i;

/** Codes that mean the same for a raw query as for a model query: the statement was never judged by the database. */
export const CONNECTION_KINDS = new Map([
  ['DatabaseNotReachable', 'P1001'], ['SocketTimeout', 'P1008'], ['ConnectionClosed', 'P1017'],
  ['AuthenticationFailed', 'P1000'], ['DatabaseDoesNotExist', 'P1003'], ['DatabaseAccessDenied', 'P1010'],
  ['TlsConnectionError', 'P1011'], ['TooManyConnections', 'P2037'],
]);

/**
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {UserFacing}
 */
export function unreachable(config) {
  const { host, port } = config;
  return {
    code: 'P1001',
    message: `Can't reach database server at \`${host}:${port}\`\n\nPlease make sure your database server is running.`,
    meta: { database_host: host, database_port: Number(port) },
  };
}

/** "Connection closed" in the text is what LiteLLM recognises as an outage rather than a bad request. */
export const closed = () => ({
  code: 'P1017', message: 'Server has closed the connection. (Connection closed)', meta: {},
});

/**
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {UserFacing}
 */
function poolTimeout(config) {
  const timeout = config.poolTimeoutMs / 1000;
  const limit = config.pool.max;
  return {
    code: 'P2024',
    message: 'Timed out fetching a new connection from the connection pool. '
      + `(Current connection pool timeout: ${timeout}, connection limit: ${limit})`,
    meta: { connection_limit: limit, timeout },
  };
}

/**
 * Errors of pg that never became a Prisma error.
 * @param {any} error
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {UserFacing | undefined}
 */
export function connectionTrouble(error, config) {
  const text = String(error?.message ?? '');
  if (/timeout exceeded when trying to connect/i.test(text)) return poolTimeout(config);
  if (UNREACHABLE.has(error?.code) || /connection timeout|timeout expired/i.test(text)) return unreachable(config);
  if (CLOSED.has(error?.code) || CLOSED_TEXT.test(text)) return closed();
  // Node reports several failed addresses of one name together.
  if (Array.isArray(error?.errors) && error.errors.length > 0) return connectionTrouble(error.errors[0], config);
  return undefined;
}
