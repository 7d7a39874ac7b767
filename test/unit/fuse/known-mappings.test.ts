/** What native code keeps of mappings. A fifo is the connection: what is put into it is read as a request, and so is the answer. */
import assert from 'node:assert/strict';
import { closeSync, constants, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { requireNative } from '../../../src/native.js';
import { run, withScratch } from '../../support/mke2fs.js';

const BLOCK = 512;
const FUSE_WRITE = 16;
const ARGS = 80;
const ANSWER = 24;
const KNOWN_BLOCKS = 1 << 16;

interface Connection {
  /** The file has so many unwritten blocks, as far as native code is concerned. */
  learn(ino: number): void;
  forget(ino: number): void;
  /** Writes a block of the file; true if native code has answered. */
  write(ino: number, block: number): boolean;
}

function withConnection(use: (connection: Connection) => void): void {
  withScratch((scratch) => {
    const native = requireNative();
    const device = join(scratch, 'device');
    writeFileSync(device, '');
    truncateSync(device, KNOWN_BLOCKS * BLOCK);
    const fifo = join(scratch, 'fifo');
    assert.equal(run('mkfifo', [fifo]).code, 0);
    const fuseFd = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    const deviceFd = openSync(device, 'r+');
    const unconverted = new Float64Array(1);
    native.fastPathStart(fuseFd, deviceFd, BLOCK, unconverted);
    const request = Buffer.alloc(ARGS + BLOCK);
    request.writeUInt32LE(request.length, 0);
    request.writeUInt32LE(FUSE_WRITE, 4);
    request.writeUInt32LE(BLOCK, 56);
    const slot = new Uint8Array(4096);
    try {
      use({
        learn(ino) {
          const bytes = KNOWN_BLOCKS * BLOCK;
          native.mappingLearn(fuseFd, Float64Array.of(ino, bytes, 0, 1, 1, 0, bytes, 0, 1));
        },
        forget(ino) {
          native.mappingForget(fuseFd, ino);
        },
        write(ino, block) {
          if (unconverted[0] >= 4000) native.fastPathWritten(fuseFd);
          request.writeBigUInt64LE(BigInt(ino), 16);
          request.writeBigUInt64LE(BigInt(block * BLOCK), 48);
          writeSync(fuseFd, request);
          const got = native.fuseRead(fuseFd, slot);
          assert.ok(got === ANSWER || got === request.length, `${got}`);
          return got === ANSWER;
        },
      });
    } finally {
      native.fastPathStop(fuseFd);
      closeSync(fuseFd);
      closeSync(deviceFd);
    }
  });
}

describe('unwritten blocks that native code knows', function () {
  this.timeout(60_000);

  it('are 65,536 ranges at most, in whatever files they are', () =>
    withConnection(({ learn, write }) => {
      const FILES = [11, 12, 13, 14];
      for (const ino of FILES) learn(ino);
      // Each write leaves one range more than there was.
      let ranges = FILES.length;
      const writeOneMore = () => {
        const ino = FILES[ranges % FILES.length];
        return write(ino, 1 + 2 * Math.floor(ranges / FILES.length));
      };
      while (ranges <= 100_000 && writeOneMore()) ranges++;
      assert.equal(ranges, 65_536 + 1, 'the write behind the last one is not for native code');
      for (const ino of FILES) assert.equal(write(ino, 0), false, `file ${ino} is known`);
      learn(11);
      assert.equal(write(11, 0), true);
      assert.equal(write(12, 0), false);
    }));

  it('count no more when their file is forgotten or told again', () =>
    withConnection(({ learn, forget, write }) => {
      for (let round = 0; round < 12; round++) {
        if (round % 2 === 0) forget(11);
        learn(11);
        for (let block = 1; block < 20_000; block += 2) assert.equal(write(11, block), true, `round ${round}`);
      }
    }));
});
