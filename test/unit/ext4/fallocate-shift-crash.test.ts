/** COLLAPSE_RANGE and INSERT_RANGE under a crash: in one transaction, and in several where the log is small. */
import assert from 'node:assert/strict';
import { MemoryDevice } from '../../../src/block/memory-device.js';
import { type CrashPoint, crashPoints, Random, unflushedAt } from '../../../src/crash/crash-points.js';
import { History } from '../../../src/crash/history.js';
import { RecordingDevice } from '../../../src/crash/recording-device.js';
import { contradictions, openState, readTree } from '../../../src/crash/recovered.js';
import { StateImage } from '../../../src/crash/state-image.js';
import type { LogEntry } from '../../../src/crash/write-log.js';
import { realEnvironment } from '../../../src/ext4/environment.js';
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  fallocate,
} from '../../../src/ext4/fallocate.js';
import { Inode } from '../../../src/ext4/inode.js';
import { begin } from '../../../src/ext4/iomap.js';
import { openVolume } from '../../../src/ext4/open.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { fsck } from '../../support/mke2fs.js';
import { write } from './file-model.js';
import { closeAndCheck, FIRST_FILE, fillFreeBlocks, imageWithFiles, openImage } from './volume-fixture.js';

const BLOCK = 1024;
const POISON = 0xee;
/** Bytes of the last block that belong to the file. */
const TAIL = 700;

interface Shape {
  readonly name: string;
  /** So many blocks 1, 3, 5... of the file hold their own number: each an extent, in leaves that are half full. */
  readonly written: number;
  /** Unwritten blocks behind the end, with gaps as well: they move, too. */
  readonly behind: number;
  readonly range: { readonly first: number; readonly count: number };
  /** Which of the two takes more than one transaction. */
  readonly several: readonly ShiftHistory['kind'][];
  readonly limit: (vol: Volume) => void;
}

/** Transactions smaller than the tree, larger than what one step may change. */
const smallLog = (vol: Volume) => void Object.assign(vol.journal, { maxTransactionBlocks: 40 });
/** As small as can be: a leaf in each, where the operation asks for room between leaves. */
const tinyLog = (vol: Volume) => void Object.assign(vol.journal, { maxTransactionBlocks: 8, canExtend: () => false });

const SHAPES: readonly Shape[] = [
  {
    name: 'one transaction',
    written: 2100,
    behind: 0,
    range: { first: 101, count: 21 },
    several: [],
    limit: () => {},
  },
  {
    name: 'several transactions',
    written: 2100,
    behind: 0,
    range: { first: 101, count: 21 },
    several: ['collapse', 'insert'],
    limit: smallLog,
  },
  {
    name: 'blocks behind the end, transactions as small as can be',
    written: 90,
    behind: 80,
    range: { first: 15, count: 1 },
    several: ['insert'],
    limit: tinyLog,
  },
];

interface ShiftHistory {
  readonly shape: Shape;
  readonly kind: 'collapse' | 'insert';
  readonly base: Uint8Array;
  readonly log: readonly LogEntry[];
  readonly transactions: number;
}

const sizeOf = ({ written }: Shape) => (2 * written - 1) * BLOCK + TAIL;

/** One such operation on a file that is on the disk, and its commit. */
function recordShift(kind: ShiftHistory['kind'], shape: Shape): ShiftHistory {
  const { written, behind, range } = shape;
  const fixture = openImage(imageWithFiles(12, 1, ['-b', String(BLOCK), '-J', 'size=1', '-m', '0']));
  fillFreeBlocks(fixture, POISON);
  for (let i = behind - 1; i >= 0; i--)
    fallocate(fixture.vol, FIRST_FILE, FALLOC_FL_KEEP_SIZE, 2 * (written + i) * BLOCK, BLOCK);
  for (let i = written - 1; i >= 0; i--) write(fixture.vol, FIRST_FILE, (2 * i + 1) * BLOCK, numbered(2 * i + 1));
  const size = sizeOf(shape);
  fixture.vol.journal.run(1, (handle) => Inode.load(fixture.vol, FIRST_FILE).edit(handle).setSizeBytes(size));
  const { addrBytes } = begin(fixture.vol, FIRST_FILE, size, 1, 0);
  closeAndCheck(fixture);
  // As a memory map of the last page can leave it.
  fixture.image.fill(POISON, addrBytes + TAIL, addrBytes + BLOCK);
  const base = fixture.image.slice();
  const device = new RecordingDevice(new MemoryDevice(fixture.image));
  const { volume: vol } = openVolume(device, { env: { ...realEnvironment, schedule: () => () => {} } });
  shape.limit(vol);
  const before = vol.journal.runningTid;
  const mode = kind === 'collapse' ? FALLOC_FL_COLLAPSE_RANGE : FALLOC_FL_INSERT_RANGE;
  fallocate(vol, FIRST_FILE, mode, range.first * BLOCK, range.count * BLOCK);
  const transactions = vol.journal.runningTid - before + 1;
  vol.journal.commitNow();
  closeAndCheck({ image: fixture.image, vol });
  return { shape, kind, base, log: device.log, transactions };
}

function numbered(lblk: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  new Uint32Array(block.buffer).fill(lblk);
  return block;
}

/** What was written before each write was issued, and other states at every flush: recovered, judged, checked. */
function crashEverywhere(recorded: ShiftHistory): void {
  const { base, log } = recorded;
  const image = new StateImage(base);
  const history = new History(image, log);
  const random = new Random(3);
  const points: CrashPoint[] = [];
  for (let position = 0; position <= log.length; position++) {
    points.push({ position, kept: unflushedAt(log, position), torn: new Map() });
    if (log[position]?.kind !== 'flush') continue;
    points.push(...crashPoints(log, position, { exhaustiveWrites: 2, randomSubsets: 2, tornStates: 1 }, random));
  }
  assert.ok(points.length > 40, `${points.length} states`);
  points.forEach((point, i) => {
    history.advanceTo(point.position);
    const { level } = image;
    history.apply(point);
    const fs = openState(image);
    const file = readTree(fs).find(({ path }) => path === 'file0');
    judge(recorded, file?.content ?? new Uint8Array(0));
    fs.closeSync();
    assert.deepEqual(contradictions(image), []);
    if (i % 12 === 0 || i === points.length - 1) {
      const { code, output } = fsck(image.bytes);
      assert.equal(code, 0, output);
    }
    image.undoTo(level);
  });
}

/**
 * Blocks hold nothing, or their number; each number once, ascending, and only those of the range may be missing. After
 * one transaction they are all where they were, or all where they are going to be.
 */
function judge({ shape, kind, transactions }: ShiftHistory, content: Uint8Array): void {
  const { written, range } = shape;
  const size = sizeOf(shape);
  const sizes = [size, size + (kind === 'collapse' ? -1 : 1) * range.count * BLOCK];
  assert.ok(sizes.includes(content.length), `${content.length} bytes`);
  const view = new DataView(content.buffer, content.byteOffset, content.length);
  const found: number[] = [];
  for (let at = 0; at < content.length; at += BLOCK) {
    const number = view.getUint32(at, true);
    if (number !== 0) found.push(number);
    if (number !== 0 && transactions === 1) {
      const place = placeOf(shape, kind, number, content.length !== size);
      assert.equal(at, place * BLOCK, `of ${content.length} bytes`);
    }
    const length = number === 2 * written - 1 ? TAIL : BLOCK;
    for (let i = at; i < Math.min(at + BLOCK, content.length); i += 4)
      assert.equal(view.getUint32(i, true), i < at + length ? number : 0, `byte ${i} of ${content.length}`);
  }
  const mayBeMissing = (number: number) =>
    kind === 'collapse' && number >= range.first && number < range.first + range.count;
  const all = Array.from({ length: written }, (_, i) => 2 * i + 1);
  assert.deepEqual(
    found.filter((number) => !mayBeMissing(number)),
    all.filter((number) => !mayBeMissing(number)),
  );
  assert.deepEqual(
    found,
    [...found].sort((a, b) => a - b),
  );
}

/** Which block of the file the block with that number is, before the operation or after it. */
function placeOf({ range }: Shape, kind: ShiftHistory['kind'], number: number, after: boolean): number {
  if (!after || number < range.first) return number;
  return kind === 'insert' ? number + range.count : number - range.count;
}

describe('a crash while blocks of a file move', function () {
  this.timeout(120_000);

  for (const shape of SHAPES) {
    for (const kind of ['collapse', 'insert'] as const) {
      it(`shows every block once and in order (${kind}, ${shape.name})`, () => {
        const recorded = recordShift(kind, shape);
        assert.equal(recorded.transactions > 1, shape.several.includes(kind), `${recorded.transactions} transactions`);
        crashEverywhere(recorded);
      });
    }
  }
});
