import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toEngineError } from '../src/errors.mjs';

const config = { pool: { max: 4 }, poolTimeoutMs: 5000, host: 'db', port: '5432', schema: undefined };
const facing = (error) => toEngineError(error, config).errors[0].user_facing_error;
const prisma = (code, cause, message = 'm') => Object.assign(new Error(message), { code, meta: { modelName: 'A', driverAdapterError: { cause } } });

test('unique violations name their columns', () => {
  const error = facing(prisma('P2002', { kind: 'UniqueConstraintViolation', constraint: { fields: ['"userId"', 'day'] } }));
  assert.deepEqual([error.error_code, error.meta.target, error.is_panic], ['P2002', ['userId', 'day'], false]);
  assert.ok(!('driverAdapterError' in error.meta));
});

test('an unreachable database is P1001, for model and raw queries alike', () => {
  for (const error of [
    prisma('P1001', { kind: 'DatabaseNotReachable' }), prisma('P2010', { kind: 'DatabaseNotReachable' }),
    Object.assign(new Error('connect EHOSTUNREACH'), { code: 'EHOSTUNREACH' }),
    new Error('Connection terminated due to connection timeout'),
    Object.assign(new Error(''), { errors: [Object.assign(new Error('x'), { code: 'ECONNREFUSED' })] }),
  ]) {
    assert.equal(facing(error).error_code, 'P1001');
    assert.match(facing(error).message, /^Can't reach database server at `db:5432`/);
  }
});

test('lost connections and a full pool', () => {
  assert.equal(facing(new Error('Connection terminated unexpectedly')).error_code, 'P1017');
  assert.equal(facing(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' })).error_code, 'P1017');
  const full = facing(new Error('timeout exceeded when trying to connect'));
  assert.deepEqual([full.error_code, full.meta], ['P2024', { connection_limit: 4, timeout: 5 }]);
});

test('raw errors carry the SQLSTATE', () => {
  const error = facing(prisma('P2010', { kind: 'postgres', originalCode: '42601', originalMessage: 'syntax error' }));
  assert.deepEqual([error.error_code, error.meta], ['P2010', { code: '42601', message: 'syntax error' }]);
});

test('database errors without a Prisma code print the SQLSTATE and have no error_code', () => {
  const error = facing({ name: 'DriverAdapterError', cause: { kind: 'postgres', code: '22P05', originalCode: '22P05', message: 'no "x"', severity: 'ERROR' } });
  assert.ok(!('error_code' in error));
  assert.match(error.message, /PostgresError \{ code: "22P05", message: "no \\"x\\""/);
});

test('expired transactions are recognisable', () => {
  const { error } = toEngineError({ code: 'P2028', message: 'Transaction API error: A query cannot be executed on an expired transaction. …' }, config).errors[0];
  assert.match(error, /^Transaction already closed: A query/);
});
