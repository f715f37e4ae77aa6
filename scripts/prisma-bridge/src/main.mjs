/** Entry point: `main.mjs -p PORT [--enable-metrics] [--enable-raw-queries]`, started by ../query-engine. */
import { readFileSync } from 'node:fs';
import { databaseUrl, parseDatabaseUrl, parsePort } from './config.mjs';
import { log } from './log.mjs';

const parentPid = process.ppid; // before anything slow: the parent may die while we load
try {
  const port = parsePort(process.argv.slice(2));
  const config = parseDatabaseUrl(databaseUrl(process.env), (path) => readFileSync(path, 'utf8'));
  const { openDatabase } = await import('./database.mjs');
  const { createHandler, listen } = await import('./server.mjs');
  const { manageLifecycle } = await import('./lifecycle.mjs');
  const database = openDatabase(config);
  const servers = await listen(createHandler(database), port);
  manageLifecycle(servers, database.close, parentPid);
} catch (error) {
  // Messages of our own hold no secrets; those of others are shown only when debugging.
  const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
  log('start-failed', { reason: code ?? JSON.stringify(message) }, error);
  process.exit(1);
}
