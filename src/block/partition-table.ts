/** Partitions of a disk image: GPT (UEFI 2.10, 5.3), or MBR with its chain of logical partitions. */
import { crc32 } from '../codec/crc.js';
import { type ReadView, readView } from '../codec/view.js';
import { CorruptionError } from '../errors.js';
import type { BlockDevice } from './device.js';

export interface Partition {
  /** As in /dev/sdaN. */
  readonly number: number;
  readonly startBytes: number;
  readonly sizeBytes: number;
  /** GPT only. */
  readonly label: string;
  readonly uuid: string;
}

const SECTOR_SIZES = [512, 4096];
const GPT_SIGNATURE = 'EFI PART';
const MAX_ENTRIES = 1024;
const MBR_ENTRIES_AT = 446;
const MBR_SIGNATURE = 0xaa55;
const GPT_PROTECTIVE = 0xee;
const EXTENDED_TYPES = new Set([0x05, 0x0f, 0x85]);
/** Logical partitions begin there; more than this many are a loop. */
const FIRST_LOGICAL = 5;
const MAX_LOGICAL = 128;

/** The partitions, by number; empty if there is no table. Throws CorruptionError for a table that contradicts itself. */
export function readPartitions(device: BlockDevice): Partition[] {
  for (const sectorBytes of SECTOR_SIZES) {
    const found = readGpt(device, sectorBytes);
    if (found !== null) return found;
  }
  return readMbr(device);
}

function readAt(device: BlockDevice, offset: number, length: number): Uint8Array | null {
  if (!(offset >= 0) || offset + length > device.sizeBytes) return null;
  const bytes = new Uint8Array(length);
  device.read(offset, bytes);
  return bytes;
}

const number64 = (view: ReadView, at: number) =>
  view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;

function readGpt(device: BlockDevice, sectorBytes: number): Partition[] | null {
  const header = readAt(device, sectorBytes, 512);
  if (header === null || Buffer.from(header.subarray(0, 8)).toString('latin1') !== GPT_SIGNATURE) return null;
  const bad = (finding: string) => new CorruptionError('partition table', 'GPT header', finding);
  const view = readView(header);
  const headerBytes = view.getUint32(12, true);
  if (headerBytes < 92 || headerBytes > header.length) throw bad(`it is ${headerBytes} bytes long`);
  const checked = header.slice(0, headerBytes);
  checked.fill(0, 16, 20);
  if (crc32(checked) !== view.getUint32(16, true)) throw bad('its checksum does not match');
  const count = view.getUint32(80, true);
  const entryBytes = view.getUint32(84, true);
  if (count > MAX_ENTRIES || entryBytes < 128 || entryBytes > 4096)
    throw bad(`${count} entries of ${entryBytes} bytes`);
  const table = readAt(device, number64(view, 72) * sectorBytes, count * entryBytes);
  if (table === null) throw bad('its entries lie outside the image');
  if (crc32(table) !== view.getUint32(88, true)) throw bad('the checksum of the entries does not match');
  const entries = readView(table);
  const partitions: Partition[] = [];
  for (let i = 0; i < count; i++) {
    const at = i * entryBytes;
    if (table.subarray(at, at + 16).every((byte) => byte === 0)) continue;
    const first = number64(entries, at + 32);
    const last = number64(entries, at + 40);
    if (last < first) throw bad(`partition ${i + 1} ends before it begins`);
    partitions.push({
      number: i + 1,
      startBytes: first * sectorBytes,
      sizeBytes: (last - first + 1) * sectorBytes,
      label: Buffer.from(table.subarray(at + 56, at + 128))
        .toString('utf16le')
        .replace(/\0.*$/s, ''),
      uuid: guid(table.subarray(at + 16, at + 32)),
    });
  }
  return partitions;
}

/** The first three fields are little-endian. */
function guid(bytes: Uint8Array): string {
  const hex = (from: number, to: number) => Buffer.from(bytes.subarray(from, to)).toString('hex');
  const swapped = (from: number, to: number) => Buffer.from(bytes.slice(from, to).reverse()).toString('hex');
  return `${swapped(0, 4)}-${swapped(4, 6)}-${swapped(6, 8)}-${hex(8, 10)}-${hex(10, 16)}`;
}

interface MbrEntry {
  readonly type: number;
  readonly firstSector: number;
  readonly sectors: number;
}

/** The four entries; null without the signature. */
function mbrEntries(device: BlockDevice, sector: number): MbrEntry[] | null {
  const bytes = readAt(device, sector * 512, 512);
  if (bytes === null) return null;
  const view = readView(bytes);
  if (view.getUint16(510, true) !== MBR_SIGNATURE) return null;
  return [0, 1, 2, 3].map((i) => {
    const at = MBR_ENTRIES_AT + i * 16;
    return {
      type: view.getUint8(at + 4),
      firstSector: view.getUint32(at + 8, true),
      sectors: view.getUint32(at + 12, true),
    };
  });
}

function readMbr(device: BlockDevice): Partition[] {
  const primary = mbrEntries(device, 0);
  if (primary === null || primary.some(({ type }) => type === GPT_PROTECTIVE)) return [];
  const partitions: Partition[] = [];
  const add = (number: number, sector: number, sectors: number) =>
    partitions.push({ number, startBytes: sector * 512, sizeBytes: sectors * 512, label: '', uuid: '' });
  primary.forEach(({ type, firstSector, sectors }, i) => {
    if (sectors > 0 && type !== 0 && !EXTENDED_TYPES.has(type)) add(i + 1, firstSector, sectors);
  });
  const extended = primary.find(({ type, sectors }) => sectors > 0 && EXTENDED_TYPES.has(type));
  if (extended === undefined) return partitions;
  let at = extended.firstSector;
  for (let number = FIRST_LOGICAL; number < FIRST_LOGICAL + MAX_LOGICAL; number++) {
    const [logical, next] = mbrEntries(device, at) ?? [];
    if (logical === undefined || logical.sectors === 0) break;
    add(number, at + logical.firstSector, logical.sectors);
    if (next === undefined || next.sectors === 0) break;
    at = extended.firstSector + next.firstSector;
  }
  return partitions;
}
