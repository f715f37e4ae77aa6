/** Builds the connection pool and Prisma's JavaScript client, and exposes the client's engine. */
import { existsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { BridgeAdapter } from './adapter.mjs';
import { log } from './log.mjs';

/**
 * The part of Prisma's client this bridge stands on. It is internal to @prisma/client, hence the exact version pin: the
 * public API would demand JavaScript values and hide the engine's own error codes and raw column types.
 * @typedef {object} Engine
 * @property {(query: import('./graphql.mjs').JsonQuery, options: {interactiveTransaction?: {id: string}}) =>
 *   Promise<{data: Record<string, unknown>}>} request
 * @property {(action: 'start' | 'commit' | 'rollback', headers: {}, options: object) =>
 *   Promise<{id: string} | undefined>} transaction
 *
 * @typedef {object} Database
 * @property {Engine} engine
 * @property {import('./arguments.mjs').Schema} schema
 * @property {import('./config.mjs').DatabaseConfig} config
 * @property {() => Promise<void>} close
 */

/** These steer prisma-client-py's engine; the JavaScript client would read them as its own settings. */
const FOREIGN_SETTINGS = ['PRISMA_CLIENT_ENGINE_TYPE', 'PRISMA_ENGINE_PROTOCOL', 'PRISMA_QUERY_ENGINE_BINARY'];

/** @returns {string} path of the generated client's entry file */
function clientPath() {
  const here = dirname(fileURLToPath(import.meta.url));
  const path = process.env.PRISMA_BRIDGE_CLIENT ?? join(here, '..', 'client');
  const entry = existsSync(path) && statSync(path).isDirectory() ? join(path, 'index.js') : path;
  if (!existsSync(entry)) throw new Error('the generated client is missing: run generate.mjs first');
  return entry;
}

/**
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {pg.Pool}
 */
function createPool(config) {
  const searchPath = config.schema ? `; SET search_path TO ${pg.escapeIdentifier(config.schema)}` : '';
  // Not as start-up options: connection poolers in front of PostgreSQL refuse those.
  const onConnect = (/** @type {pg.Client} */ client) => client.query(`SET TIME ZONE 'UTC'${searchPath}`);
  const pool = new pg.Pool(/** @type {pg.PoolConfig} */ ({ ...config.pool, onConnect }));
  // Idle connections fail when the database goes away. pg drops them; without a listener the process would die.
  pool.on('error', (error) => log('idle-connection-lost', { code: /** @type {any} */ (error).code }, error));
  // A connection that dies while it is checked out reports here as well as through its query.
  pool.on('connect', (client) => client.on('error', () => {}));
  return pool;
}

/**
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {Database}
 */
export function openDatabase(config) {
  for (const name of FOREIGN_SETTINGS) delete process.env[name];
  const { Prisma, PrismaClient } = createRequire(import.meta.url)(clientPath());
  const pool = createPool(config);
  const adapter = new BridgeAdapter(pool, config.schema ? { schema: config.schema } : undefined);
  const client = new PrismaClient({ adapter, log: [], errorFormat: 'minimal' });
  const engine = /** @type {Engine} */ (client._engine);
  if (typeof engine?.request !== 'function' || typeof engine?.transaction !== 'function') {
    throw new Error('this version of @prisma/client is not the one the bridge was written for');
  }
  return {
    engine,
    schema: new Map(Prisma.dmmf.datamodel.models.map((/** @type {any} */ model) =>
      [model.name, new Map(model.fields.map((/** @type {any} */ field) => [field.name, field]))])),
    config,
    close: async () => {
      await client.$disconnect().catch(() => {});
      await pool.end().catch(() => {});
    },
  };
}
