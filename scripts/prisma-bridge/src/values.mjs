/**
 * Turns results of the JavaScript client into what the engine puts on the wire: Json columns as text, BigInt and
 * Decimal as text, Bytes as base64, dates as RFC 3339 with an offset.
 */

/**
 * The engine writes no fraction when it is zero and otherwise three, six or nine digits; Python before 3.11 reads
 * nothing else, and it does not read "Z".
 * @param {string} text an ISO date and time; without an offset it is UTC
 * @returns {string}
 */
export function formatDateTime(text) {
  const match = /^(.+?T\d{2}:\d{2}(?::\d{2})?)(?:\.(\d+))?(Z|[+-]\d{2}:?\d{2})?$/.exec(text);
  if (!match) return text; // "infinity" and dates before Christ: nothing better is known
  const [, head, digits = '', zone] = match;
  const fraction = digits.replace(/0+$/, '');
  const width = fraction.length === 0 ? 0 : Math.ceil(fraction.length / 3) * 3;
  return head + (width ? `.${fraction.padEnd(width, '0')}` : '') + (!zone || zone === 'Z' ? '+00:00' : zone);
}

/**
 * @param {{$type: string, value: any}} tagged
 * @returns {unknown}
 */
function untag({ $type, value }) {
  switch ($type) {
    case 'DateTime':
      // Model fields have millisecond precision in Prisma, whatever the column holds.
      return formatDateTime(new Date(value).toISOString());
    case 'Bytes':
      return typeof value === 'string' ? value : Buffer.from(value).toString('base64');
    default:
      return String(value); // BigInt, Decimal, Json (already text)
  }
}

/**
 * @param {unknown} value result of a model query
 * @returns {unknown}
 */
export function toWire(value) {
  if (typeof value === 'bigint') return value.toString();
  if (value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(toWire);
  if (value instanceof Date) return formatDateTime(value.toISOString());
  if (ArrayBuffer.isView(value)) return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
  if ('$type' in value) return untag(/** @type {any} */ (value));
  // Decimal.js objects (averages and sums worked out in memory) have a shape of their own and a toFixed.
  if (typeof (/** @type {any} */ (value).toFixed) === 'function') return /** @type {any} */ (value).toFixed();
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, toWire(item)]));
}
