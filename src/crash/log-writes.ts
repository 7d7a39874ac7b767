/**
 * The format of dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst, drivers/md/dm-log-writes.c): a
 * superblock, then for each write, flush and mark an entry of one sector followed by its data. Little-endian. Tools
 * that read it, such as replay-log of xfstests, replay a history recorded here, and the other way round.
 */

import { CorruptionError } from '../errors.js';
import { type LogEntry, SECTOR_BYTES } from './write-log.js';

const WRITE_LOG_MAGIC = 0x6a736677736872n;
const WRITE_LOG_VERSION = 1n;

const FLAG_FLUSH = 1;
const FLAG_DISCARD = 4;
const FLAG_MARK = 8;

/** Fields of the entry: sector, nr_sectors, flags, data_len, each 64 bits. */
const ENTRY_FIELDS = 4;

/**
 * The log as a file. A write that does not cover whole sectors is widened to them with what `image`, the device as it
 * was when the log began, and the writes before it say.
 */
export function writeLogWrites(log: readonly LogEntry[], image: Uint8Array): Uint8Array {
  const now = image.slice();
  const sectors: Uint8Array[] = [];
  let entries = 0;
  const put = (sector: number, count: number, flags: number, data: Uint8Array) => {
    const header = new Uint8Array(SECTOR_BYTES);
    const view = new DataView(header.buffer);
    [sector, count, flags, (flags & FLAG_MARK) !== 0 ? data.length : 0].forEach((value, i) => {
      view.setBigUint64(8 * i, BigInt(value), true);
    });
    if ((flags & FLAG_MARK) !== 0) header.set(data, 8 * ENTRY_FIELDS);
    sectors.push(header);
    if ((flags & FLAG_MARK) === 0 && data.length > 0) sectors.push(data);
    entries++;
  };
  for (const entry of log) {
    if (entry.kind === 'flush') put(0, 0, FLAG_FLUSH, new Uint8Array(0));
    else if (entry.kind === 'mark') put(0, 0, FLAG_MARK, new TextEncoder().encode(entry.text).subarray(0, 400));
    else {
      now.set(entry.bytes, entry.offsetBytes);
      const first = Math.floor(entry.offsetBytes / SECTOR_BYTES);
      const end = Math.ceil((entry.offsetBytes + entry.bytes.length) / SECTOR_BYTES);
      if (entry.origin === 'discard') put(first, end - first, FLAG_DISCARD, new Uint8Array(0));
      else put(first, end - first, 0, now.slice(first * SECTOR_BYTES, end * SECTOR_BYTES));
    }
  }
  const superblock = new Uint8Array(SECTOR_BYTES);
  const view = new DataView(superblock.buffer);
  view.setBigUint64(0, WRITE_LOG_MAGIC, true);
  view.setBigUint64(8, WRITE_LOG_VERSION, true);
  view.setBigUint64(16, BigInt(entries), true);
  view.setUint32(24, SECTOR_BYTES, true);
  return Buffer.concat([superblock, ...sectors]);
}

/** The entries of such a log. Discards are left out: they promise nothing. Throws CorruptionError. */
export function readLogWrites(bytes: Uint8Array): LogEntry[] {
  const bad = (finding: string) => new CorruptionError('write log', 'byte 0', finding);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < SECTOR_BYTES || view.getBigUint64(0, true) !== WRITE_LOG_MAGIC) {
    throw bad('not a dm-log-writes log: the magic number is missing');
  }
  const count = Number(view.getBigUint64(16, true));
  const sectorBytes = view.getUint32(24, true);
  if (sectorBytes < SECTOR_BYTES || sectorBytes > 4096) throw bad(`its sectors have ${sectorBytes} bytes`);
  const log: LogEntry[] = [];
  let at = sectorBytes;
  for (let i = 0; i < count; i++) {
    if (at + sectorBytes > bytes.length) throw bad(`it ends after ${i} of ${count} entries`);
    const field = (n: number) => Number(view.getBigUint64(at + 8 * n, true));
    const [sector, sectors, flags, dataBytes] = [field(0), field(1), field(2), field(3)];
    const data = at + sectorBytes;
    if ((flags & FLAG_FLUSH) !== 0) log.push({ kind: 'flush', covers: log.length });
    if ((flags & FLAG_MARK) !== 0) {
      const text = bytes.subarray(at + 8 * ENTRY_FIELDS, at + 8 * ENTRY_FIELDS + dataBytes);
      log.push({ kind: 'mark', text: new TextDecoder().decode(text), promise: true });
    } else if ((flags & FLAG_DISCARD) === 0 && sectors > 0) {
      const length = sectors * sectorBytes;
      if (data + length > bytes.length) throw bad(`entry ${i} is cut off`);
      log.push({
        kind: 'write',
        offsetBytes: sector * sectorBytes,
        bytes: bytes.subarray(data, data + length),
        origin: 'data',
      });
    }
    at = data + ((flags & (FLAG_DISCARD | FLAG_MARK)) === 0 ? sectors * sectorBytes : 0);
  }
  return log;
}
