/** FALLOC_FL_COLLAPSE_RANGE and FALLOC_FL_INSERT_RANGE: ranges that go, holes that come, and what is behind them moves. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { FsError } from '../../../src/errors.js';
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  fallocate,
} from '../../../src/ext4/fallocate.js';
import { readData } from '../../../src/ext4/file-data.js';
import { readInline } from '../../../src/ext4/inline-data.js';
import { Inode } from '../../../src/ext4/inode.js';
import { OP_WRITE } from '../../../src/ext4/iomap.js';
import { writeJournaled } from '../../../src/ext4/journaled-data.js';
import { truncateTo } from '../../../src/ext4/truncate.js';
import type { Volume } from '../../../src/ext4/volume.js';
import { checkProperty } from '../../support/property.js';
import { Model, read, write } from './file-model.js';
import { closeAndCheck, FIRST_FILE, fillFreeBlocks, imageWithFiles, openImage } from './volume-fixture.js';

const FILES = 2;
const FORMATS = [
  { name: '1k', args: ['-b', '1024'] },
  { name: '4k', args: ['-b', '4096'] },
  { name: '1k blocks, 8k clusters', args: ['-b', '1024', '-O', 'bigalloc', '-C', '8192'] },
  { name: '4k blocks, 16k clusters', args: ['-b', '4096', '-O', 'bigalloc', '-C', '16384'] },
  { name: '1k, data=journal', args: ['-b', '1024'], journaled: true },
  { name: '1k, content in the inode', args: ['-b', '1024', '-O', 'inline_data', '-I', '256'] },
];

interface Step {
  readonly kind: string;
  readonly file: number;
  readonly cluster: number;
  readonly byte: number;
  readonly clusters: number;
}

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom(
      ...['write', 'write', 'append', 'scatter', 'truncate', 'punch', 'zero', 'allocate', 'keep', 'commit', 'reopen'],
      ...['collapse', 'collapse', 'collapse', 'insert', 'insert', 'insert'],
    ),
    file: fc.nat(FILES - 1),
    cluster: fc.oneof({ weight: 4, arbitrary: fc.nat(30) }, { weight: 1, arbitrary: fc.nat(300) }),
    byte: fc.oneof(fc.constant(0), fc.nat(1023)),
    clusters: fc.oneof({ weight: 3, arbitrary: fc.nat(5) }, { weight: 1, arbitrary: fc.nat(60) }),
  }),
  { minLength: 1, maxLength: 80, size: 'max' },
);

const MAX_BYTES = 3 << 20;

/** Does the step on the volume and on the model. */
function take(vol: Volume, step: Step, model: Model, journaled: boolean, number: number): void {
  const { kind } = step;
  const { blockSize, clusterRatio } = vol.geometry;
  const ino = FIRST_FILE + step.file;
  const unit = blockSize * clusterRatio;
  const aligned = step.cluster * unit;
  const pos = aligned + step.byte;
  const length = step.clusters * unit + 1 + step.byte;
  const put = (at: number, data: Uint8Array) => {
    if (journaled) writeJournaled(vol, ino, at, data, OP_WRITE, 0);
    else write(vol, ino, at, data);
    model.write(at, data);
  };
  if (kind === 'write') put(pos, new Uint8Array(length).fill(1 + (number % 255)));
  else if (kind === 'append') put(model.bytes.length, new Uint8Array(length).fill(1 + (number % 255)));
  else if (kind === 'scatter') {
    // Every second block: more extents than a leaf holds.
    for (let i = 0; i < 40; i++) put(pos + 2 * i * blockSize, new Uint8Array(blockSize).fill(1 + ((number + i) % 255)));
  } else if (kind === 'truncate') {
    truncateTo(vol, ino, pos);
    model.resize(pos);
  } else if (kind === 'punch') {
    fallocate(vol, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, length);
    model.zero(pos, length);
  } else if (kind === 'zero' || kind === 'allocate') {
    fallocate(vol, ino, kind === 'zero' ? FALLOC_FL_ZERO_RANGE : 0, pos, length);
    if (pos + length > model.bytes.length) model.resize(pos + length);
    if (kind === 'zero') model.zero(pos, length);
  } else if (kind === 'keep') fallocate(vol, ino, FALLOC_FL_KEEP_SIZE, pos, length);
  else if (kind === 'commit') vol.journal.commitNow();
  else if (kind === 'collapse' || kind === 'insert') {
    const size = model.bytes.length;
    const bytes = (step.clusters + 1) * unit;
    if (kind === 'insert' && size + bytes > MAX_BYTES) return;
    const at = step.byte === 1 ? pos : aligned;
    const mode = kind === 'collapse' ? FALLOC_FL_COLLAPSE_RANGE : FALLOC_FL_INSERT_RANGE;
    const possible = at % unit === 0 && (kind === 'collapse' ? at + bytes < size : at < size);
    if (!possible) {
      assert.throws(
        () => fallocate(vol, ino, mode, at, bytes),
        (error) => error instanceof FsError && error.code === 'EINVAL',
      );
      return;
    }
    fallocate(vol, ino, mode, at, bytes);
    if (kind === 'collapse') model.collapse(at, bytes);
    else model.insert(at, bytes);
  }
}

function contentOf(vol: Volume, ino: number): Uint8Array {
  const inode = Inode.get(vol, ino);
  const bytes = new Uint8Array(inode.sizeBytes);
  if (inode.hasInlineData) readInline(inode, 0, bytes);
  else if (inode.journalsData) readData(inode, 0, bytes);
  else return read(vol, ino);
  return bytes;
}

function compare(vol: Volume, models: readonly Model[]): void {
  models.forEach((model, file) => {
    const bytes = contentOf(vol, FIRST_FILE + file);
    assert.equal(bytes.length, model.bytes.length);
    const different = bytes.findIndex((byte, i) => byte !== model.bytes[i]);
    assert.equal(different, -1, `byte ${different} of file ${file} is ${bytes[different]}`);
  });
}

describe('ranges that are taken out of files and put into them', function () {
  this.timeout(120_000);

  for (const { name, args, journaled = false } of FORMATS) {
    it(`leave the bytes that they leave in an array, and a sound image (${name})`, () => {
      const fresh = imageWithFiles(24, FILES, args);
      checkProperty(
        fc.property(steps, (script) => {
          let fixture = openImage(fresh.slice(), { journalsData: journaled });
          fillFreeBlocks(fixture, 0xee);
          const models = Array.from({ length: FILES }, () => new Model());
          script.forEach((step, i) => {
            if (step.kind !== 'reopen') {
              take(fixture.vol, step, models[step.file], journaled, i);
              if (step.kind === 'collapse' || step.kind === 'insert') compare(fixture.vol, models);
              return;
            }
            closeAndCheck(fixture);
            fixture = openImage(fixture.image, { journalsData: journaled });
          });
          compare(fixture.vol, models);
          closeAndCheck(fixture);
          compare(openImage(fixture.image).vol, models);
        }),
        { numRuns: Number(process.env.EXT4D_RUNS ?? 25) },
      );
    });
  }
});
