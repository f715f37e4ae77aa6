/** Every action, against a real PostgreSQL. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { DATABASE_URL, SKIP, call, fixtureClient, freshTables, startBridge } from './bridge.mjs';

describe('actions', { skip: SKIP }, () => {
  let bridge;
  let db;
  before(async () => {
    db = await freshTables();
    bridge = await startBridge({ url: DATABASE_URL, client: fixtureClient() });
  });
  after(async () => {
    await db?.end();
    assert.equal(await bridge?.stop(), 0);
  });

  const post = (query, headers) => call(bridge.base, '/', { query, variables: {} }, headers);
  const run = async (query, headers) => {
    const answer = await post(query, headers);
    assert.ok(!answer.errors, JSON.stringify(answer.errors));
    return answer.data.result;
  };
  const fails = async (query) => (await post(query)).errors[0].user_facing_error;
  const raw = (action, sql, parameters = []) => run(
    `mutation { result: ${action}(query: ${JSON.stringify(sql)} parameters: ${JSON.stringify(JSON.stringify(parameters))}) }`);
  const all = 'email name role age tokens score balance blob tags extra extras seenAt active';

  test('createOne keeps every kind of value', async () => {
    const extra = { k: [1, { a: null }], s: 'q"\n☃' };
    const name = 'N"\'\\\n\t☃😀';
    const created = await run(`mutation { result: createOnePerson(data: {email: "a@x", name: ${JSON.stringify(name)}, role: "ADMIN",
      tokens: 9007199254740993, score: 1.5, balance: "12.340000000000000001", blob: "aGVsbG8=", tags: ["x", "y"],
      extra: ${JSON.stringify(JSON.stringify(extra))}, extras: ["1", "{}"], seenAt: "2024-01-02T05:04:05.678+02:00"}) {${all}} }`);
    assert.deepEqual(JSON.parse(created.extra), extra);
    assert.deepEqual({ ...created, extra: undefined, balance: Number(created.balance) }, {
      email: 'a@x', name, role: 'ADMIN', age: 0, tokens: '9007199254740993', score: 1.5, balance: 12.34,
      blob: 'aGVsbG8=', tags: ['x', 'y'], extra: undefined, extras: ['1', '{}'], seenAt: '2024-01-02T03:04:05.678+00:00', active: true,
    });
    assert.match(created.balance, /^12\.3400000000000000010*$/);
    const { rows } = await db.query('SELECT extra, seen_at::text AS seen, tokens FROM "Person" WHERE email = $1', ['a@x']);
    assert.deepEqual(rows[0], { extra, seen: '2024-01-02 03:04:05.678', tokens: '9007199254740993' });
  });

  test('database null and JSON null', async () => {
    await run('mutation { result: createOnePerson(data: {email: "n1@x", name: "n1", extra: "null"}) {id} }');
    await run('mutation { result: createOnePerson(data: {email: "n2@x", name: "n2", extra: DbNull}) {id} }');
    const { rows } = await db.query(`SELECT email, extra IS NULL AS db, extra = 'null' AS json FROM "Person" WHERE email LIKE 'n_@x' ORDER BY 1`);
    assert.deepEqual(rows, [{ email: 'n1@x', db: false, json: true }, { email: 'n2@x', db: true, json: null }]);
    assert.deepEqual(await run('query { result: findManyPerson(where: {extra: {equals: DbNull}}) {email extra} }'), [{ email: 'n2@x', extra: null }]);
    assert.deepEqual(await run('query { result: findManyPerson(where: {extra: {equals: JsonNull}}) {email extra} }'), [{ email: 'n1@x', extra: 'null' }]);
  });

  test('createMany, skipDuplicates', async () => {
    assert.deepEqual(await run('mutation { result: createManyPerson(data: [{email: "m1@x", name: "m1", age: 1, extra: "{\\"v\\": 1}"}, {email: "m2@x", name: "m2", age: 2}]) {count} }'), { count: 2 });
    assert.deepEqual(await run('mutation { result: createManyPerson(data: [{email: "m2@x", name: "m2"}, {email: "m3@x", name: "m3", age: 3}], skipDuplicates: true) {count} }'), { count: 1 });
  });

  test('updateOne: operators, lists, nested writes', async () => {
    const updated = await run(`mutation { result: updateOnePerson(where: {email: "a@x"}, data: {tokens: {increment: 2}, age: {decrement: 1}, tags: {push: ["z"]},
      extra: "{\\"v\\": 2}", posts: {create: [{title: "t1", likes: 5}, {title: "t2"}]}}) {tokens age tags extra posts(orderBy: [{title: "asc"}]) {title likes person {email}}} }`);
    assert.deepEqual(updated, {
      tokens: '9007199254740995', age: -1, tags: ['x', 'y', 'z'], extra: '{"v": 2}',
      posts: [{ title: 't1', likes: 5, person: { email: 'a@x' } }, { title: 't2', likes: 0, person: { email: 'a@x' } }],
    });
    assert.deepEqual((await run('mutation { result: updateOnePerson(where: {email: "a@x"}, data: {tags: {set: []}}) {tags} }')).tags, []);
  });

  test('findUnique, findFirst and their OrThrow forms', async () => {
    assert.deepEqual(await run('query { result: findUniquePerson(where: {name_age: {name: "m1", age: 1}}) {email} }'), { email: 'm1@x' });
    assert.equal(await run('query { result: findUniquePerson(where: {email: "none"}) {email} }'), null);
    assert.equal(await run('query { result: findFirstPerson(where: {email: "none"}) {email} }'), null);
    assert.deepEqual(await run('query { result: findFirstPersonOrThrow(where: {age: {gte: 1}}, orderBy: {age: "desc"}) {email} }'), { email: 'm3@x' });
    assert.equal((await fails('query { result: findUniquePersonOrThrow(where: {email: "none"}) {id} }')).error_code, 'P2025');
    assert.equal((await fails('query { result: findFirstPersonOrThrow(where: {email: "none"}) {id} }')).error_code, 'P2025');
  });

  test('findMany: filters, order, cursor, distinct, relations', async () => {
    const emails = async (args) => (await run(`query { result: findManyPerson(${args}) {email} }`)).map(({ email }) => email);
    assert.deepEqual(await emails('where: {OR: [{email: "m1@x"}, {AND: [{age: 3}, {NOT: {name: "zzz"}}]}]}, orderBy: [{age: "desc"}, {email: "asc"}]'), ['m3@x', 'm1@x']);
    assert.deepEqual(await emails('where: {email: {in: ["m1@x", "m2@x"], not: "m1@x"}}'), ['m2@x']);
    assert.deepEqual(await emails('where: {posts: {some: {likes: {gt: 1}}}}'), ['a@x']);
    assert.deepEqual(await emails('where: {posts: {every: {likes: {gt: 1}}}, email: {startsWith: "M", mode: "insensitive"}}, orderBy: {age: "asc"}'), ['m1@x', 'm2@x', 'm3@x']);
    assert.deepEqual(await emails('where: {posts: {none: {}}, role: "MEMBER", extra: {path: ["v"], equals: "1"}}'), ['m1@x']);
    assert.deepEqual(await emails('orderBy: [{age: "desc"}], cursor: {email: "m2@x"}, skip: 1, take: 1'), ['m1@x']);
    assert.deepEqual(await emails('where: {seenAt: {lt: "2024-01-03T00:00:00+00:00"}}'), ['a@x']);
    assert.deepEqual(await emails('where: {tokens: {gt: "9007199254740994"}}'), ['a@x']);
    assert.equal((await emails('distinct: ["role"]')).length, 2);
    assert.deepEqual(await run('query { result: findManyPost(where: {person: {is: {email: "a@x"}}, likes: 0}) {title} }'), [{ title: 't2' }]);
  });

  test('upsertOne', async () => {
    const upsert = (age) => run(`mutation { result: upsertOnePerson(where: {email: "u@x"}, create: {email: "u@x", name: "u", extra: "[1]"}, update: {age: ${age}, extra: "[2]"}) {age extra} }`);
    assert.deepEqual(await upsert(5), { age: 0, extra: '[1]' });
    assert.deepEqual(await upsert(5), { age: 5, extra: '[2]' });
  });

  test('aggregate and groupBy', async () => {
    const result = await run('query { result: aggregatePerson(where: {email: {startsWith: "m"}}) {_count { _all name } _sum {tokens age} _avg {age} _max {age seenAt}} }');
    assert.deepEqual({ ...result, _max: result._max.age }, { _count: { _all: 3, name: 3 }, _sum: { tokens: '0', age: 6 }, _avg: { age: 2 }, _max: 3 });
    assert.match(result._max.seenAt, /\+00:00$/);
    assert.deepEqual(await run('query { result: groupByPerson(by: ["role"], orderBy: [{role: "asc"}], having: {role: {not: "MEMBER"}}) {role _count { _all } _sum {tokens}} }'),
      [{ role: 'ADMIN', _count: { _all: 1 }, _sum: { tokens: '9007199254740995' } }]);
  });

  test('updateMany, deleteOne, deleteMany', async () => {
    assert.deepEqual(await run('mutation { result: updateManyPerson(where: {email: {startsWith: "m"}}, data: {active: false}) {count} }'), { count: 3 });
    assert.deepEqual(await run('mutation { result: deleteOnePerson(where: {email: "m1@x"}) {email active} }'), { email: 'm1@x', active: false });
    assert.deepEqual(await run('mutation { result: deleteManyPerson(where: {active: false}) {count} }'), { count: 2 });
    assert.equal((await fails('mutation { result: deleteOnePerson(where: {email: "m1@x"}) {id} }')).error_code, 'P2025');
    assert.equal((await fails('mutation { result: updateOnePerson(where: {email: "m1@x"}, data: {age: 1}) {id} }')).error_code, 'P2025');
  });

  test('queryRaw and executeRaw', async () => {
    const { columns, types, rows } = await raw('queryRaw', `SELECT $1::text AS s, $2::int AS i, $3::float8 AS f, $4::bool AS b, $5::text[] AS l, $6::jsonb AS j,
      $7::timestamptz AS tz, $8::bigint AS big, 1.50::numeric AS n, NULL AS nothing, '2024-03-01'::date AS d, '2024-03-01 10:00+02'::timestamptz AS off,
      'ADMIN'::"Role" AS e, '\\x6869'::bytea AS bytes, relname FROM pg_class WHERE relname = 'Person'`,
    ['a\'"\n☃', 5, 1.25, true, ['q', 'r'], { a: 1 }, '2024-01-01T00:00:00.5Z', '9007199254740993']);
    assert.deepEqual(Object.fromEntries(columns.map((name, at) => [name, [types[at], rows[0][at]]])), {
      s: ['string', 'a\'"\n☃'], i: ['int', 5], f: ['double', 1.25], b: ['bool', true], l: ['string-array', ['q', 'r']],
      j: ['json', { a: 1 }], tz: ['datetime', '2024-01-01T00:00:00.500+00:00'], big: ['bigint', '9007199254740993'],
      n: ['decimal', '1.50'], nothing: ['string', null], d: ['date', '2024-03-01'], off: ['datetime', '2024-03-01T08:00:00+00:00'],
      e: ['string', 'ADMIN'], bytes: ['bytes', 'aGk='], relname: ['string', 'Person'],
    });
    assert.deepEqual((await run('mutation { result: queryRaw(query: "SELECT $1::bigint AS n" parameters: "[9007199254740993]") }')).rows, [['9007199254740993']]);
    const names = await raw('queryRaw', `SELECT relkind, array_agg(relname) FROM pg_class WHERE relname = 'Person' GROUP BY 1`);
    assert.deepEqual([names.types, names.rows], [['string', 'string-array'], [['r', ['Person']]]]);
    assert.deepEqual((await raw('queryRaw', 'SELECT 1 WHERE false')).rows, []);
    assert.equal(await raw('executeRaw', 'UPDATE "Person" SET age = age + $1 WHERE email = $2', [3, 'u@x']), 1);
  });

  test('error codes', async () => {
    const unique = await fails('mutation { result: createOnePerson(data: {email: "a@x"}) {id} }');
    assert.deepEqual([unique.error_code, unique.meta.target], ['P2002', ['email']]);
    assert.equal((await fails('mutation { result: createOnePost(data: {title: "t", personId: "nobody"}) {id} }')).error_code, 'P2003');
    assert.match((await fails('mutation { result: createOnePerson(data: {name: "x"}) {id} }')).message, /A value is required but not set/);
    const unknown = await fails('query { result: findManyPerson(where: {nope: 1}) {id} }');
    assert.deepEqual([unknown.error_code, unknown.meta.kind], ['P2009', 'UnknownInputField']);
    const sql = await fails('mutation { result: queryRaw(query: "SELEC 1" parameters: "[]") }');
    assert.deepEqual([sql.error_code, sql.meta.code], ['P2010', '42601']);
    const nul = await fails('mutation { result: createOnePerson(data: {email: "\\u0000"}) {id} }');
    assert.match(nul.message, /PostgresError \{ code: "22021"/);
  });

  test('nothing of a failed query is logged', () => {
    assert.match(bridge.stderr(), /query-failed code=P2003/);
    assert.doesNotMatch(bridge.stderr(), /nobody|SELEC|@x/);
  });

  test('other addresses', async () => {
    assert.deepEqual(await call(bridge.base, '/status'), { status: 'ok' });
    assert.deepEqual(await call(bridge.base, '/metrics?format=json'), { counters: [], gauges: [], histograms: [] });
    assert.equal((await fetch(`${bridge.base}/nothing`)).status, 404);
    assert.equal((await fetch(`${bridge.base}/`, { method: 'POST', body: '{' })).status, 400);
    assert.equal((await fetch(`${bridge.base}/`, { method: 'POST', body: '{}', headers: { origin: 'http://evil.example' } })).status, 403);
    const { port } = new URL(bridge.base);
    assert.equal((await fetch(`http://127.0.0.1:${port}/status`)).status, 200);
  });
});
