/** Interactive transactions, and the atomic execution of several queries. */

/** A batch has no time limit in the engine; this one only frees the connection if the bridge itself loses track. */
const BATCH_TIMEOUT_MS = 10 * 60_000;
const DEFAULT_MAX_WAIT_MS = 2_000;
const DEFAULT_TIMEOUT_MS = 5_000;

/** The engine's answer when no connection came free in time. */
class StartTimeout extends Error {
  code = 'P2028';
  constructor() {
    super('Transaction API error: Unable to start a transaction in the given time.');
  }
}

/**
 * @param {unknown} value
 * @param {number} fallback
 * @returns {number}
 */
function positive(value, fallback) {
  return typeof value === 'number' && value > 0 ? value : fallback;
}

/**
 * @param {import('./database.mjs').Engine} engine
 * @param {{max_wait?: unknown, timeout?: unknown, isolation_level?: unknown}} options body of /transaction/start
 * @returns {Promise<string>} the transaction's id
 */
export async function startTransaction(engine, options) {
  const maxWait = positive(options.max_wait, DEFAULT_MAX_WAIT_MS);
  const starting = engine.transaction('start', {}, {
    maxWait,
    timeout: positive(options.timeout, DEFAULT_TIMEOUT_MS),
    ...(typeof options.isolation_level === 'string' ? { isolationLevel: options.isolation_level } : {}),
  });
  // The client notices a missed max_wait only once it has a connection; the caller must not wait that long. The client
  // then rolls the late transaction back by itself.
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new StartTimeout()), maxWait + 50);
  });
  starting.catch(() => {});
  try {
    const info = /** @type {{id: string}} */ (await Promise.race([starting, late]));
    return info.id;
  } finally {
    clearTimeout(timer);
  }
}

/**
 * @param {import('./database.mjs').Engine} engine
 * @param {'commit' | 'rollback'} action
 * @param {string} id
 * @returns {Promise<void>}
 */
export async function endTransaction(engine, action, id) {
  await engine.transaction(action, {}, { id });
}

/**
 * Runs `work` in a transaction of its own.
 * @template T
 * @param {import('./database.mjs').Engine} engine
 * @param {number} maxWaitMs
 * @param {(id: string) => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function inTransaction(engine, maxWaitMs, work) {
  const id = await startTransaction(engine, { max_wait: maxWaitMs, timeout: BATCH_TIMEOUT_MS });
  let result;
  try {
    result = await work(id);
  } catch (error) {
    // The first error is the one that tells what happened.
    await endTransaction(engine, 'rollback', id).catch(() => {});
    throw error;
  }
  await endTransaction(engine, 'commit', id);
  return result;
}
