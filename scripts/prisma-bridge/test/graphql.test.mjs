import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDocument, resolveField } from '../src/graphql.mjs';

const scalar = (type) => ({ kind: 'scalar', type });
const relation = (type) => ({ kind: 'object', type });
const schema = new Map([
  ['User', new Map(Object.entries({
    id: scalar('String'), meta: scalar('Json'), data: scalar('Json'), score: scalar('Float'), big: scalar('BigInt'),
    price: scalar('Decimal'), posts: relation('Post'),
  }))],
  ['Post', new Map(Object.entries({ id: scalar('Int'), meta: scalar('Json'), author: relation('User') }))],
]);
const one = (text) => parseDocument(text, schema)[0];
const args = (text) => one(`mutation { result: updateOneUser(${text}) { id } }`).query.query.arguments;
const json = (value) => ({ $type: 'Json', value });

test('field names give action and model', () => {
  assert.deepEqual(resolveField('findUniqueUserOrThrow', schema), { action: 'findUniqueOrThrow', modelName: 'User' });
  assert.deepEqual(resolveField('createManyPost', schema), { action: 'createMany', modelName: 'Post' });
  assert.deepEqual(resolveField('queryRaw', schema), { action: 'queryRaw' });
  assert.throws(() => resolveField('findManyNobody', schema), { code: 'P2009' });
});

test('selections, nested arguments and aliases', () => {
  const { key, query } = one('query { mine: findManyUser(take: 2, orderBy: [{id: "asc"}]) { id posts(where: {meta: {equals: "1"}}) { id author { id } } } }');
  assert.equal(key, 'mine');
  assert.deepEqual(query, {
    action: 'findMany',
    modelName: 'User',
    query: {
      arguments: { take: 2, orderBy: [{ id: 'asc' }] },
      selection: {
        id: true,
        posts: {
          arguments: { where: { meta: { equals: json('1') } } },
          selection: { id: true, author: { arguments: {}, selection: { id: true } } },
        },
      },
    },
  });
});

test('aggregates', () => {
  const { query } = one('query { result: aggregateUser { _count { _all } _sum { score } } }');
  assert.deepEqual(query.query.selection, {
    _count: { arguments: {}, selection: { _all: true } }, _sum: { arguments: {}, selection: { score: true } },
  });
});

test('strings for Json columns are JSON text, wherever they stand', () => {
  assert.deepEqual(args('data: {meta: "{\\"a\\":1}", data: "2", id: "3"}'),
    { data: { meta: json('{"a":1}'), data: json('2'), id: '3' } });
  assert.deepEqual(args('where: {OR: [{NOT: {meta: {path: ["a"], equals: "1", string_contains: "x"}}}]}'),
    { where: { OR: [{ NOT: { meta: { path: ['a'], equals: json('1'), string_contains: 'x' } } }] } });
  assert.deepEqual(args('data: {posts: {create: [{meta: "1"}], update: [{where: {id: 1}, data: {meta: "2"}}], upsert: {where: {id: 1}, create: {meta: "3"}, update: {meta: "4"}}}}').data.posts, {
    create: [{ meta: json('1') }],
    update: [{ where: { id: 1 }, data: { meta: json('2') } }],
    upsert: { where: { id: 1 }, create: { meta: json('3') }, update: { meta: json('4') } },
  });
  assert.deepEqual(args('where: {posts: {some: {author: {is: {data: {equals: "1"}}}}}}').where.posts,
    { some: { author: { is: { data: { equals: json('1') } } } } });
  assert.deepEqual(args('data: {posts: {update: {author: {update: {meta: "1", id: "x"}}}}}').data.posts.update.author.update,
    { meta: json('1'), id: 'x' });
});

test('null, database null and JSON null are told apart', () => {
  assert.deepEqual(args('data: {meta: JsonNull}').data.meta, { $type: 'Enum', value: 'JsonNull' });
  assert.deepEqual(args('data: {meta: "DbNull"}').data.meta, { $type: 'Enum', value: 'DbNull' });
  assert.deepEqual(args('data: {meta: "\\"DbNull\\""}').data.meta, json('"DbNull"'));
  assert.equal(args('data: {id: null}').data.id, null);
});

test('numbers keep their digits', () => {
  assert.deepEqual(args('data: {big: {increment: 9007199254740993}, score: 9007199254740993, price: 0.10000000000000000001}').data, {
    big: { increment: { $type: 'BigInt', value: '9007199254740993' } },
    score: 9007199254740992,
    price: { $type: 'Decimal', value: '0.10000000000000000001' },
  });
});

test('strings keep quotes, newlines, escapes and unicode', () => {
  const text = 'a"b\\c\nd\t\u0007☃😀 """ end';
  assert.equal(args(`data: {id: ${JSON.stringify(text)}}`).data.id, text);
  assert.equal(args('data: {id: """block "quoted"\n  two"""}').data.id, 'block "quoted"\ntwo');
});

test('malformed queries are refused without being quoted', () => {
  assert.throws(() => parseDocument('mutation { secret(', schema), (error) => error.code === 'P2009' && !/secret/.test(error.message));
  assert.throws(() => parseDocument('query { result: findManyUser(where: $x) { id } }', schema), { code: 'P2009' });
});
