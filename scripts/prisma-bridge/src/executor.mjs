/** Runs one request body: a single query, several top-level fields, or a batch. */
import { QueryError } from './errors.mjs';
import { parseDocument } from './graphql.mjs';
import { rawToWire } from './raw.mjs';
import { inTransaction } from './transactions.mjs';
import { toWire } from './values.mjs';

/** @typedef {import('./graphql.mjs').Selection} Selection */

/**
 * @param {import('./database.mjs').Database} database
 * @param {Selection} selection
 * @param {string | undefined} transactionId
 * @returns {Promise<unknown>}
 */
async function runOne(database, { query }, transactionId) {
  const options = transactionId ? { interactiveTransaction: { id: transactionId } } : {};
  const result = (await database.engine.request(query, options)).data[query.action];
  return query.action === 'queryRaw' ? rawToWire(/** @type {any} */ (result)) : toWire(result);
}

/**
 * @param {import('./database.mjs').Database} database
 * @param {Selection[]} selections
 * @param {string | undefined} transactionId
 * @returns {Promise<{data: Record<string, unknown>}>}
 */
async function runDocument(database, selections, transactionId) {
  /** @type {Record<string, unknown>} */
  const data = {};
  // One after the other: fields of a mutation are ordered, and a transaction has one connection.
  for (const selection of selections) data[selection.key] = await runOne(database, selection, transactionId);
  return { data };
}

/**
 * @param {import('./database.mjs').Database} database
 * @param {Selection[][]} documents
 * @param {string | undefined} transactionId
 * @returns {Promise<{data: Record<string, unknown>}[]>}
 */
async function runAll(database, documents, transactionId) {
  const results = [];
  for (const [index, selections] of documents.entries()) {
    try {
      results.push(await runDocument(database, selections, transactionId));
    } catch (error) {
      if (error instanceof Error) Object.assign(error, { batchRequestIdx: index });
      throw error;
    }
  }
  return results;
}

/**
 * @param {import('./database.mjs').Database} database
 * @param {any} body parsed JSON
 * @param {string | undefined} transactionId from the X-transaction-id header
 * @param {(error: unknown) => object} describe turns an error into the engine's error answer
 * @returns {Promise<object>}
 */
export async function execute(database, body, transactionId, describe) {
  // Without a transaction of its own, a batch waits for a connection as long as a query would.
  const maxWait = database.config.poolTimeoutMs || 2 ** 31 - 1000;
  const parse = (/** @type {any} */ item) => {
    if (typeof item?.query !== 'string') throw new QueryError('A request needs a query');
    return parseDocument(item.query, database.schema);
  };

  if (!Array.isArray(body?.batch)) {
    const selections = parse(body);
    if (transactionId || selections.length < 2) return await runDocument(database, selections, transactionId);
    return await inTransaction(database.engine, maxWait, (id) => runDocument(database, selections, id));
  }
  if (body.transaction || transactionId) {
    const documents = body.batch.map(parse); // all of them first: a malformed one must not leave half a batch behind
    if (transactionId) return { batchResult: await runAll(database, documents, transactionId) };
    return { batchResult: await inTransaction(database.engine, maxWait, (id) => runAll(database, documents, id)) };
  }
  const batchResult = [];
  for (const item of body.batch) {
    batchResult.push(await execute(database, item, undefined, describe).catch(describe));
  }
  return { batchResult };
}
