import assert from 'node:assert/strict';
import { test } from 'node:test';
import { losslessParameters, rawToWire } from '../src/raw.mjs';
import { formatDateTime, toWire } from '../src/values.mjs';

test('dates get an offset and a fraction Python reads', () => {
  assert.equal(formatDateTime('2024-01-02T03:04:05.000Z'), '2024-01-02T03:04:05+00:00');
  assert.equal(formatDateTime('2024-01-02T03:04:05.6Z'), '2024-01-02T03:04:05.600+00:00');
  assert.equal(formatDateTime('2024-01-02T03:04:05.678912+00:00'), '2024-01-02T03:04:05.678912+00:00');
  assert.equal(formatDateTime('2024-01-02T03:04:05'), '2024-01-02T03:04:05+00:00');
  assert.equal(formatDateTime('infinity'), 'infinity');
});

test('tagged values become what the engine sends', () => {
  assert.deepEqual(toWire({
    n: { $type: 'BigInt', value: '9007199254740993' },
    d: { $type: 'Decimal', value: '0.1000' },
    j: { $type: 'Json', value: '{"a": 1}' },
    t: { $type: 'DateTime', value: '2024-01-02T03:04:05.678Z' },
    b: { $type: 'Bytes', value: 'aGk=' },
    rows: [{ n: { $type: 'BigInt', value: 5 } }, null],
    plain: 'x', float: 1.5, yes: true, nothing: null, big: 12n,
  }), {
    n: '9007199254740993', d: '0.1000', j: '{"a": 1}', t: '2024-01-02T03:04:05.678+00:00', b: 'aGk=',
    rows: [{ n: '5' }, null], plain: 'x', float: 1.5, yes: true, nothing: null, big: '12',
  });
});

test('raw rows keep their columns and types', () => {
  const types = ['bytes', 'bytes-array', 'datetime', 'datetime-array', 'bigint', 'json', 'string'];
  const result = rawToWire({
    columns: types,
    types,
    rows: [[Uint8Array.from([104, 105]), [Uint8Array.from([104]), null], '2024-01-02T03:04:05.5+00:00',
      ['2024-01-02T03:04:05+00:00'], 7n, { a: [1] }, null]],
  });
  assert.deepEqual(result.rows, [['aGk=', ['aA==', null], '2024-01-02T03:04:05.500+00:00',
    ['2024-01-02T03:04:05+00:00'], '7', { a: [1] }, null]]);
});

test('only large whole numbers outside objects and strings are quoted', () => {
  const json = '[9007199254740993, -9007199254740993, 1.5, 1e30, "9007199254740993 \\" {", [9007199254740993], {"a": 9007199254740993}, 9007199254740993]';
  assert.equal(losslessParameters(json),
    '["9007199254740993", "-9007199254740993", 1.5, 1e30, "9007199254740993 \\" {", ["9007199254740993"], {"a": 9007199254740993}, "9007199254740993"]');
});
