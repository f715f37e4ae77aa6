/** Atomicity, interactive transactions, and survival of a database that goes away. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { DATABASE_URL, ENGINE, SKIP, call, fixtureClient, freePort, freshTables, startBridge } from './bridge.mjs';

/** A TCP relay in front of PostgreSQL that can be cut, so that no test needs to restart the server itself. */
async function relay(target) {
  const sockets = new Set();
  const server = createServer((client) => {
    const upstream = connect(Number(target.port || 5432), target.hostname);
    for (const [socket, other] of [[client, upstream], [upstream, client]]) {
      sockets.add(socket);
      socket.on('error', () => {}).on('close', () => { sockets.delete(socket); other.destroy(); }).pipe(other);
    }
  });
  const port = await freePort();
  const open = () => new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const cut = () => new Promise((resolve) => { server.close(resolve); for (const socket of sockets) socket.destroy(); });
  await open();
  return { port, open, cut };
}

describe('transactions', { skip: SKIP }, () => {
  let bridge;
  let db;
  let wire;
  let client;
  before(async () => {
    db = await freshTables();
    const url = new URL(DATABASE_URL);
    wire = await relay(new URL(DATABASE_URL));
    url.hostname = '127.0.0.1';
    url.port = String(wire.port);
    url.searchParams.set('connection_limit', '3');
    url.searchParams.set('pool_timeout', '2');
    client = fixtureClient();
    bridge = await startBridge({ url: url.toString(), client });
  });
  after(async () => {
    await bridge?.stop();
    await wire?.cut();
    await db?.end();
  });

  const post = (body, headers) => call(bridge.base, '/', typeof body === 'string' ? { query: body, variables: {} } : body, headers);
  const create = (email) => `mutation { result: createOnePerson(data: {email: "${email}"}) {email} }`;
  const batch = (queries, transaction) => post({ batch: queries.map((query) => ({ query, variables: {} })), transaction });
  const start = async (body = { timeout: 5000, max_wait: 2000 }) => (await call(bridge.base, '/transaction/start', body));
  const end = (id, how) => call(bridge.base, `/transaction/${id}/${how}`, {});
  const known = async (pattern) => (await db.query('SELECT email FROM "Person" WHERE email LIKE $1 ORDER BY 1', [pattern])).rows.map((row) => row.email);
  const code = (answer) => answer.errors?.[0].user_facing_error.error_code;

  test('a batch with transaction: true is all or nothing', async () => {
    const good = await batch([create('b1'), 'mutation { result: executeRaw(query: "SELECT 1" parameters: "[]") }', create('b2')], true);
    assert.deepEqual(good.batchResult, [{ data: { result: { email: 'b1' } } }, { data: { result: 1 } }, { data: { result: { email: 'b2' } } }]);
    const bad = await batch([create('b3'), create('b1'), create('b4')], true);
    assert.equal(code(bad), 'P2002');
    assert.equal(bad.errors[0].user_facing_error.batch_request_idx, 1);
    assert.deepEqual(await known('b%'), ['b1', 'b2']);
  });

  test('a batch without transaction answers each query for itself', async () => {
    const { batchResult } = await batch([create('c1'), create('c1'), create('c2')], false);
    assert.deepEqual([batchResult[0].data.result.email, code(batchResult[1]), batchResult[2].data.result.email], ['c1', 'P2002', 'c2']);
  });

  test('several fields of one document are all or nothing', async () => {
    const fields = (...emails) => `mutation { ${emails.map((email, at) => `r${at}: createOnePerson(data: {email: "${email}"}) {email}`).join(' ')} }`;
    assert.deepEqual((await post(fields('d1', 'd2'))).data, { r0: { email: 'd1' }, r1: { email: 'd2' } });
    assert.equal(code(await post(fields('d3', 'd1'))), 'P2002');
    assert.deepEqual(await known('d%'), ['d1', 'd2']);
  });

  test('commit and rollback, raw SQL included', async () => {
    for (const how of ['commit', 'rollback']) {
      const { id } = await start();
      const headers = { 'X-transaction-id': id };
      await post(create(`e-${how}`), headers);
      const inside = await post(`mutation { result: queryRaw(query: "SELECT count(*) FROM \\"Person\\" WHERE email = $1" parameters: "[\\"e-${how}\\"]") }`, headers);
      assert.deepEqual(inside.data.result.rows, [['1']]);
      await post(`mutation { result: executeRaw(query: "UPDATE \\"Person\\" SET age = 7 WHERE email = $1" parameters: "[\\"e-${how}\\"]") }`, headers);
      await post({ batch: [{ query: create(`e-${how}-batch`), variables: {} }], transaction: true }, headers);
      assert.deepEqual(await known(`e-${how}%`), []); // not visible outside yet
      assert.deepEqual(await end(id, how), {});
      assert.equal(code(await post(create('e-late'), headers)), 'P2028');
    }
    assert.deepEqual(await known('e-%'), ['e-commit', 'e-commit-batch']);
    assert.equal((await db.query(`SELECT age FROM "Person" WHERE email = 'e-commit'`)).rows[0].age, 7);
  });

  test('unknown, expired and late transactions', async () => {
    assert.equal(code(await post(create('f1'), { 'X-transaction-id': 'nope' })), 'P2028');
    assert.equal(code(await end('nope', 'commit')), 'P2028');

    const { id } = await start({ timeout: 200, max_wait: 2000 });
    await post(create('f2'), { 'X-transaction-id': id });
    await sleep(400);
    const expired = await post(create('f3'), { 'X-transaction-id': id });
    assert.equal(code(expired), 'P2028');
    assert.match(expired.errors[0].error, /^Transaction already closed/);
    assert.deepEqual(await known('f%'), []);

    const held = await Promise.all([start(), start(), start()]); // the whole pool
    const before = Date.now();
    assert.equal(code(await start({ timeout: 5000, max_wait: 300 })), 'P2028');
    assert.ok(Date.now() - before < 1500);
    assert.equal(code(await post(create('f4'))), 'P2024'); // after pool_timeout
    await Promise.all(held.map(({ id: each }) => end(each, 'rollback')));
    assert.equal((await post(create('f5'))).data.result.email, 'f5');
  });

  test('the database going away is answered and survived, open transactions included', async () => {
    for (let round = 0; round < 4; round += 1) { // more transactions than the pool has places
      const { id } = await start();
      await post(create('g-lost'), { 'X-transaction-id': id });
      const slow = post('mutation { result: executeRaw(query: "SELECT pg_sleep(5)" parameters: "[]") }');
      await sleep(100);
      await wire.cut();
      assert.equal(code(await slow), 'P1017');
      const down = await post(create('g-down'));
      assert.equal(code(down), 'P1001');
      assert.match(down.errors[0].user_facing_error.message, /^Can't reach database server/);
      assert.equal(code(await post('mutation { result: queryRaw(query: "SELECT 1" parameters: "[]") }')), 'P1001');
      assert.equal(code(await start()), 'P1001');
      assert.ok((await end(id, 'commit')).errors);
      assert.deepEqual(await call(bridge.base, '/status'), { status: 'ok' });
      await wire.open();
      assert.equal((await post(create(`g-${round}`))).data.result.email, `g-${round}`);
    }
    assert.deepEqual(await known('g-%'), ['g-0', 'g-1', 'g-2', 'g-3']);
    assert.ok((await start()).id);
  });

  test('sessions ended by the server are replaced', async () => {
    await db.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`);
    await sleep(100);
    assert.equal((await post(create('h1'))).data.result.email, 'h1');
  });

  test('SIGINT ends it cleanly; the death of its parent ends it too', async () => {
    const other = await startBridge({ client });
    other.child.kill('SIGINT');
    assert.equal(await new Promise((resolve) => other.child.once('exit', resolve)), 0);

    const port = await freePort();
    const parent = spawn('sh', ['-c', `"$0" -p ${port} & wait`, ENGINE], {
      env: { ...process.env, DATABASE_URL, PRISMA_BRIDGE_CLIENT: client, PRISMA_BRIDGE_NODE: process.execPath }, stdio: 'ignore',
    });
    const up = () => call(`http://localhost:${port}`, '/status').then(() => true, () => false);
    for (let i = 0; i < 100 && !await up(); i += 1) await sleep(100);
    assert.equal(await up(), true);
    parent.kill('SIGKILL');
    await sleep(2000);
    assert.equal(await up(), false);
  });
});
