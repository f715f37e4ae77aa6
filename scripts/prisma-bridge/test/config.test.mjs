import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { rewriteSchema } from '../generate.mjs';
import { databaseUrl, parseDatabaseUrl, parsePort } from '../src/config.mjs';
import { ENGINE } from './bridge.mjs';

const parse = (url) => parseDatabaseUrl(url, (path) => `contents of ${path}`);

test('Prisma-only parameters are used and taken out of the URL', () => {
  const config = parse('postgresql://u:p%40ss@db:6543/x?connection_limit=3&pool_timeout=7&schema=mine&application_name=a&pgbouncer=true');
  assert.equal(config.pool.connectionString, 'postgresql://u:p%40ss@db:6543/x?application_name=a');
  assert.equal(config.pool.max, 3);
  assert.equal(config.pool.connectionTimeoutMillis, 7000);
  assert.deepEqual([config.schema, config.host, config.port], ['mine', 'db', '6543']);
});

test('defaults', () => {
  const config = parse('postgresql://u@db/x');
  assert.deepEqual([config.pool.max, config.pool.connectionTimeoutMillis, config.pool.ssl, config.port], [10, 10000, false, '5432']);
  assert.equal(parse('postgresql://u@db/x?pool_timeout=0').pool.connectionTimeoutMillis, undefined);
});

test('TLS follows Prisma', () => {
  assert.deepEqual(parse('postgresql://u@db/x?sslmode=require').pool.ssl, { rejectUnauthorized: false });
  assert.deepEqual(parse('postgresql://u@db/x?sslmode=require&sslaccept=strict&sslcert=/ca').pool.ssl,
    { rejectUnauthorized: true, ca: 'contents of /ca' });
});

test('a bad URL is refused without its password', () => {
  for (const bad of ['mysql://u:hunter2@db/x', 'postgresql://u:hunter2@[db/x', '']) {
    assert.throws(() => parse(bad), (error) => !/hunter2/.test(error.message));
  }
});

test('OVERWRITE_DATASOURCES wins', () => {
  const env = { DATABASE_URL: 'a', OVERWRITE_DATASOURCES: '[{"name":"client","url":"b"}]' };
  assert.equal(databaseUrl(env), 'b');
  assert.equal(databaseUrl({ DATABASE_URL: 'a' }), 'a');
  assert.throws(() => databaseUrl({}));
  assert.throws(() => databaseUrl({ OVERWRITE_DATASOURCES: 'hunter2' }), (error) => !/hunter2/.test(error.message));
});

test('port', () => {
  assert.equal(parsePort(['-p', '1234', '--enable-metrics']), 1234);
  assert.throws(() => parsePort(['-p', 'x']));
});

test('the generator block is replaced, nothing else', () => {
  const schema = 'datasource client {\n  provider = "postgresql"\n}\n\ngenerator client {\n  provider = "prisma-client-py"\n}\n\nmodel A {\n  id String @id\n}\n';
  const rewritten = rewriteSchema(schema, '/out');
  assert.ok(!rewritten.includes('prisma-client-py'));
  assert.match(rewritten, /engineType = "client"\n {2}output {5}= "\/out"/);
  assert.match(rewritten, /datasource client \{[\s\S]*model A \{/);
});

test('--version is answered without node', () => {
  const out = execFileSync(ENGINE, ['--version'], { env: { ...process.env, PRISMA_BRIDGE_NODE: '/nonexistent' }, encoding: 'utf8' });
  assert.equal(out, 'query-engine 393aa359c9ad4a4bb28630fb5613f9c281cde053\n');
});
