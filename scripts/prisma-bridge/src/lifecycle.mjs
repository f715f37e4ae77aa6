/** When to stop: on a signal, or when the program that started us is gone. */
import { log } from './log.mjs';

const PARENT_POLL_MS = 500;
/** LiteLLM kills its engine soon after asking it to stop, so running queries get only this long. */
const DRAIN_MS = 2_000;

/**
 * @param {import('node:http').Server[]} servers
 * @param {() => Promise<void>} closeDatabase
 * @param {number} parentPid process.ppid as it was at the very start
 * @returns {void}
 */
export function manageLifecycle(servers, closeDatabase, parentPid) {
  let stopping = false;
  const stop = async () => {
    if (stopping) process.exit(0); // asked twice: at once
    stopping = true;
    setTimeout(() => process.exit(0), DRAIN_MS).unref();
    await Promise.all(servers.map((server) => new Promise((resolve) => {
      server.close(resolve);
      server.closeIdleConnections();
    })));
    await closeDatabase();
    process.exit(0);
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  process.on('SIGHUP', stop);

  // A parent that is killed cannot tell us. Its children are given to another process, which is what we see.
  setInterval(() => {
    if (process.ppid !== parentPid) process.exit(0);
  }, PARENT_POLL_MS).unref();

  // A rejected promise nobody waits for (a late connection failure, say) concerns one query at most.
  process.on('unhandledRejection', (reason) => log('unhandled-rejection', {}, reason));
}
