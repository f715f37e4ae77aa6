/** Starts the real bridge process on the fixture schema, for the integration tests. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { generate } from '../generate.mjs';

const HERE = dirname(fileURLToPath(import.meta.url));
export const ENGINE = join(HERE, '..', 'query-engine');
export const DATABASE_URL = process.env.TEST_DATABASE_URL;
export const SKIP = DATABASE_URL ? false : 'set TEST_DATABASE_URL to an empty PostgreSQL database to run this';

/** @returns {Promise<number>} */
export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * @param {string} base
 * @param {string} path
 * @param {object} [body]
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 */
export async function call(base, path, body, headers = {}) {
  const response = await fetch(base + path, body === undefined
    ? { headers } : { method: 'POST', body: JSON.stringify(body), headers });
  const text = await response.text();
  return text ? JSON.parse(text) : undefined;
}

/**
 * @param {{url?: string, env?: Record<string, string>, port?: number, client: string}} options
 * @returns {Promise<{base: string, child: import('node:child_process').ChildProcess, stderr: () => string,
 *   stop: () => Promise<number | null>}>}
 */
export async function startBridge({ url = DATABASE_URL, env = {}, port, client }) {
  const listenOn = port ?? await freePort();
  const child = spawn(ENGINE, ['-p', String(listenOn), '--enable-metrics', '--enable-raw-queries'], {
    env: {
      ...process.env, DATABASE_URL: url, PRISMA_BRIDGE_CLIENT: client, PRISMA_BRIDGE_NODE: process.execPath,
      PRISMA_CLIENT_ENGINE_TYPE: 'binary', PRISMA_ENGINE_PROTOCOL: 'graphql', PRISMA_QUERY_ENGINE_BINARY: ENGINE, ...env,
    },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (data) => { stderr += data; });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const base = `http://localhost:${listenOn}`;
  for (let attempt = 0; ; attempt += 1) {
    try {
      await call(base, '/status');
      break;
    } catch (error) {
      if (attempt > 100 || child.exitCode !== null) throw new Error(`the bridge did not start: ${stderr}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  return { base, child, stderr: () => stderr, stop: async () => { child.kill('SIGTERM'); return await exited; } };
}

/** @returns {string} folder of a client generated from the fixture; removed when the process ends */
export function fixtureClient() {
  const out = mkdtempSync(join(tmpdir(), 'bridge-client-'));
  process.on('exit', () => rmSync(out, { recursive: true, force: true }));
  generate(join(HERE, 'fixture', 'schema.prisma'), out);
  return out;
}

/** @returns {Promise<pg.Client>} a connection for looking behind the bridge's back; the tables are new and empty */
export async function freshTables() {
  const client = new pg.Client({ connectionString: DATABASE_URL });
  await client.connect();
  await client.query(readFileSync(join(HERE, 'fixture', 'schema.sql'), 'utf8'));
  return client;
}
