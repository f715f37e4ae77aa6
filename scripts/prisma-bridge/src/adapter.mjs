/**
 * Prisma's PostgreSQL adapter with three differences:
 * - a transaction whose connection dies gives its place in the pool back (as published, the place is lost, and a
 *   database restart with ten open transactions would block the bridge for good);
 * - columns of PostgreSQL's internal name types can be read, as the engine can;
 * - sessions run in UTC, because the adapter drops the offset of a timestamptz without converting it.
 */
import { PrismaPg } from '@prisma/adapter-pg';
import pg from 'pg';

const TEXT = 25;
const TEXT_LIST = 1009;
/** "char", name and name[], as in `SELECT relname FROM pg_class`, are read as text and text[]. */
const READ_AS = new Map([[18, TEXT], [19, TEXT], [1003, TEXT_LIST]]);
pg.types.setTypeParser(/** @type {any} */ (1003), pg.types.getTypeParser(TEXT_LIST));

/**
 * @param {any} queryable adapter or transaction; performIO is where both talk to pg
 * @returns {void}
 */
function readNamesAsText(queryable) {
  const performIO = queryable.performIO.bind(queryable);
  queryable.performIO = async (/** @type {unknown} */ query) => {
    const result = await performIO(query);
    const fields = result.fields?.map((/** @type {any} */ field) =>
      ({ name: field.name, dataTypeID: READ_AS.get(field.dataTypeID) ?? field.dataTypeID }));
    return { fields, rows: result.rows, rowCount: result.rowCount };
  };
}

/**
 * @param {any} transaction
 * @returns {void}
 */
function releaseOnFailedEnd(transaction) {
  const executeRaw = transaction.executeRaw.bind(transaction);
  transaction.executeRaw = async (/** @type {{sql: string}} */ query) => {
    try {
      return await executeRaw(query);
    } catch (error) {
      // After a failed COMMIT or ROLLBACK nobody calls commit() or rollback(), where the connection is handed back.
      // Destroy it: its state is unknown.
      if (query.sql === 'COMMIT' || query.sql === 'ROLLBACK') transaction.client.release(true);
      throw error;
    }
  };
}

export class BridgeAdapter extends PrismaPg {
  /** @override */
  async connect() {
    const adapter = /** @type {any} */ (await super.connect());
    readNamesAsText(adapter);
    const startTransaction = adapter.startTransaction.bind(adapter);
    adapter.startTransaction = async (/** @type {unknown} */ isolationLevel) => {
      const transaction = await startTransaction(isolationLevel);
      readNamesAsText(transaction);
      releaseOnFailedEnd(transaction);
      return transaction;
    };
    return adapter;
  }
}
