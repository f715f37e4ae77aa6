/** Raw SQL. Results on the wire: `{columns, types, rows}`, rows as lists, types named as the engine names them. */
import { formatDateTime } from './values.mjs';

/**
 * @param {string} type
 * @param {unknown} value
 * @returns {unknown}
 */
function rawValue(type, value) {
  if (value === null || value === undefined) return null;
  if (Array.isArray(value) && type.endsWith('-array')) {
    const item = type.slice(0, -'-array'.length);
    return value.map((entry) => rawValue(item, entry));
  }
  if (typeof value === 'bigint') return value.toString();
  if (type === 'datetime') return formatDateTime(String(value));
  if (type === 'bytes' && typeof value === 'object') {
    return Buffer.from(/** @type {Uint8Array} */ (value)).toString('base64');
  }
  return value;
}

/**
 * @param {{columns: string[], types: string[], rows: unknown[][]}} result
 * @returns {{columns: string[], types: string[], rows: unknown[][]}}
 */
export function rawToWire({ columns, types, rows }) {
  return { columns, types, rows: rows.map((row) => row.map((value, index) => rawValue(types[index], value))) };
}

/**
 * Parameters of raw SQL arrive as a JSON list. Whole numbers past 2^53 in it are put in quotes: every parameter reaches
 * PostgreSQL as text anyway, while the query compiler refuses such numbers. Those inside objects are part of a JSON
 * document and stay as they are.
 * @param {string} json
 * @returns {string}
 */
export function losslessParameters(json) {
  let objects = 0;
  return json.replace(/"(?:[^"\\]|\\.)*"|[{}]|-?\d[\d.eE+-]*/g, (token) => {
    if (token === '{') objects += 1;
    else if (token === '}') objects -= 1;
    else if (objects === 0 && /^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token))) return `"${token}"`;
    return token;
  });
}
