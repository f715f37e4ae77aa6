/**
 * Errors in the engine's shape. prisma-client-py chooses its exception class by `error_code`, and LiteLLM reads the
 * message and the SQLSTATE to tell an outage (retry, 503) from a refused query (401, 4xx), so both must be right.
 */
import { CONNECTION_KINDS, closed, connectionTrouble, unreachable } from './outage.mjs';

/** @typedef {import('./outage.mjs').UserFacing} UserFacing */

/** The query itself is wrong. */
export class QueryError extends Error {
  code = 'P2009';
}

/**
 * Database errors without a code of Prisma's, printed as the engine prints them: LiteLLM finds the SQLSTATE in this text.
 * @param {any} cause of a driver adapter error
 * @returns {UserFacing}
 */
function uncoded(cause) {
  const quote = (/** @type {unknown} */ value) => (value == null ? 'None' : `Some(${JSON.stringify(value)})`);
  return {
    message: 'Error occurred during query execution:\nConnectorError(ConnectorError { user_facing_error: None, '
      + `kind: QueryError(PostgresError { code: "${cause.originalCode ?? cause.code}", `
      + `message: ${JSON.stringify(cause.originalMessage ?? cause.message ?? '')}, `
      + `severity: ${JSON.stringify(cause.severity ?? 'ERROR')}, detail: ${quote(cause.detail)}, `
      + `column: ${quote(cause.column)}, hint: ${quote(cause.hint)} }), transient: false })`,
    meta: {},
  };
}

/**
 * @param {any} error with a Prisma code
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {UserFacing}
 */
function coded(error, config) {
  const { driverAdapterError, ...meta } = error.meta ?? {};
  const cause = driverAdapterError?.cause;
  const connection = CONNECTION_KINDS.get(cause?.kind) ?? error.code;
  if (connection === 'P1001') return unreachable(config);
  if (connection === 'P1017') return closed();
  const unquote = (/** @type {string[]} */ names) => names.map((name) => name.replace(/^"|"$/g, ''));
  switch (error.code) {
    case 'P2010': {
      if (CONNECTION_KINDS.has(cause?.kind)) return { code: connection, message: error.message, meta: {} };
      const code = cause?.originalCode ?? cause?.code ?? 'N/A';
      return { code: 'P2010', message: error.message, meta: { code, message: cause?.originalMessage ?? error.message } };
    }
    case 'P2002':
      return { code: 'P2002', message: error.message, meta: { ...meta, target: unquote(cause?.constraint?.fields ?? []) } };
    case 'P2003':
      return { code: 'P2003', message: error.message,
        meta: { ...meta, field_name: cause?.constraint?.index ?? cause?.constraint?.fields?.join(',') ?? 'foreign key' } };
    case 'P2021':
      return { code: 'P2021', message: error.message, meta: { ...meta, table: cause?.table } };
    case 'P2022':
      return { code: 'P2022', message: error.message, meta: { ...meta, column: cause?.column } };
    default:
      return { code: error.code, message: error.message, meta };
  }
}

/**
 * @param {any} error
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {UserFacing}
 */
export function classify(error, config) {
  const cause = error?.name === 'DriverAdapterError' ? error.cause : undefined;
  if (cause?.kind === 'postgres') return uncoded(cause);
  const prismaCode = error?.code ?? error?.errorCode;
  if (typeof prismaCode === 'string' && /^P\d{4}$/.test(prismaCode)) {
    return coded({ code: prismaCode, message: error.message, meta: error.meta }, config);
  }
  return connectionTrouble(error, config) ?? { message: String(error?.message ?? error), meta: {} };
}

/**
 * @param {any} error
 * @param {import('./config.mjs').DatabaseConfig} config
 * @returns {{errors: object[]}}
 */
export function toEngineError(error, config) {
  const { code, message, meta } = classify(error, config);
  let text = message;
  if (code === 'P2028') {
    // prisma-client-py recognises an expired transaction by how this text begins.
    text = message.replace(/^Transaction API error: /, '');
    if (/expired transaction/.test(text)) text = `Transaction already closed: ${text}`;
  }
  return {
    errors: [{
      error: text,
      user_facing_error: {
        is_panic: false,
        message,
        meta,
        ...(code ? { error_code: code } : {}),
        ...(error?.batchRequestIdx === undefined ? {} : { batch_request_idx: error.batchRequestIdx }),
      },
    }],
  };
}
