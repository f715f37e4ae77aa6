/** Reads the engine's command line and environment. */

/**
 * @typedef {object} DatabaseConfig
 * @property {import('pg').PoolConfig} pool options for pg
 * @property {string | undefined} schema the `schema` parameter of the URL
 * @property {number} poolTimeoutMs how long a query may wait for a free connection
 * @property {string} host for error messages
 * @property {string} port for error messages
 */

/** URL parameters only Prisma's own engine knows; pg would ignore or misread them. */
const PRISMA_ONLY = [
  'connection_limit', 'pool_timeout', 'connect_timeout', 'socket_timeout', 'schema', 'pgbouncer',
  'statement_cache_size', 'single_use_connections', 'max_connection_lifetime', 'max_idle_connection_lifetime',
  'sslmode', 'sslcert', 'sslidentity', 'sslpassword', 'sslaccept', 'channel_binding',
];

/**
 * @param {string[]} argv arguments after the program
 * @returns {number}
 */
export function parsePort(argv) {
  const at = argv.findIndex((arg) => arg === '-p' || arg === '--port');
  const port = Number(at >= 0 ? argv[at + 1] : process.env.PORT);
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new Error('a port is needed: -p PORT');
  return port;
}

/**
 * OVERWRITE_DATASOURCES is how prisma-client-py passes a URL given in code, so it wins.
 * @param {NodeJS.ProcessEnv} env
 * @returns {string}
 */
export function databaseUrl(env) {
  if (env.OVERWRITE_DATASOURCES) {
    let sources;
    try {
      sources = JSON.parse(env.OVERWRITE_DATASOURCES);
    } catch {
      throw new Error('OVERWRITE_DATASOURCES is not JSON'); // the parser's message would quote it, password and all
    }
    if (sources?.[0]?.url) return sources[0].url;
  }
  if (!env.DATABASE_URL) throw new Error('DATABASE_URL is not set');
  return env.DATABASE_URL;
}

/**
 * Prisma's defaults: TLS certificates are checked only with `sslaccept=strict`.
 * @param {URLSearchParams} params
 * @param {(path: string) => string} readFile
 * @returns {import('pg').PoolConfig['ssl']}
 */
function tlsOptions(params, readFile) {
  const mode = params.get('sslmode');
  if (!mode || mode === 'disable' || mode === 'prefer') return false;
  const strict = params.get('sslaccept') === 'strict' || mode.startsWith('verify-');
  const ca = params.get('sslcert');
  return { rejectUnauthorized: strict, ...(ca ? { ca: readFile(ca) } : {}) };
}

/**
 * @param {string} urlText
 * @param {(path: string) => string} readFile
 * @returns {DatabaseConfig}
 */
export function parseDatabaseUrl(urlText, readFile) {
  // The text itself is not quoted in errors: it holds the password.
  if (!/^postgres(ql)?:\/\//.test(urlText) || !URL.canParse(urlText)) {
    throw new Error('the database URL must look like postgresql://user:password@host:port/database');
  }
  const url = new URL(urlText);
  const params = new URLSearchParams(url.search);
  const seconds = (/** @type {string} */ name, /** @type {number} */ fallback) => {
    const value = Number(params.get(name) ?? fallback);
    return (Number.isFinite(value) && value >= 0 ? value : fallback) * 1000;
  };
  const limit = Number(params.get('connection_limit'));
  const socketTimeout = seconds('socket_timeout', 0);
  const ssl = tlsOptions(params, readFile);
  for (const name of PRISMA_ONLY) url.searchParams.delete(name);
  // 0 means "wait for ever" in Prisma; pg reads a missing timeout that way.
  const poolTimeoutMs = seconds('pool_timeout', 10);
  return {
    pool: {
      connectionString: url.toString(),
      max: Number.isInteger(limit) && limit > 0 ? limit : 10,
      ssl,
      keepAlive: true,
      ...(poolTimeoutMs > 0 ? { connectionTimeoutMillis: poolTimeoutMs } : {}),
      ...(socketTimeout > 0 ? { query_timeout: socketTimeout } : {}),
    },
    schema: params.get('schema') ?? undefined,
    poolTimeoutMs,
    host: params.get('host') ?? (url.hostname || 'localhost'),
    port: url.port || '5432',
  };
}
