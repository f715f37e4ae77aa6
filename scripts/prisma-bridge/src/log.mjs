/**
 * Logging. Queries and their values hold virtual keys, so by default only an event name and short codes are written,
 * never a message that came from the database.
 */

/** PRISMA_BRIDGE_DEBUG=1 adds error messages (which may quote values) for a developer's own machine. */
const DEBUG = Boolean(process.env.PRISMA_BRIDGE_DEBUG);

/**
 * @param {string} event short name, for example "query-failed"
 * @param {Record<string, string | number | undefined>} [fields] codes and counts only
 * @param {unknown} [detail] written only when PRISMA_BRIDGE_DEBUG is set
 * @returns {void}
 */
export function log(event, fields = {}, detail = undefined) {
  const parts = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${value}`);
  console.error(['prisma-bridge:', event, ...parts].join(' '));
  if (DEBUG && detail !== undefined) console.error(detail);
}
