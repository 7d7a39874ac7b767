import assert from 'node:assert/strict';
import { ownView } from '../../../src/codec/view.js';
import { CorruptionError } from '../../../src/errors.js';
import { COMMIT_HEADER, JBD2_MAGIC, JOURNAL_HEADER, REVOKE_HEADER } from '../../../src/jbd2/format.js';
import { type RecoveryInfo, replay, revoke, scan } from '../../../src/jbd2/recovery.js';
import { BLOCK_SIZE, filled, HOME_BLOCKS, LogBuilder, type LogOptions } from '../../support/log-builder.js';

function recover(log: LogBuilder): RecoveryInfo {
  const source = log.source();
  const info = scan(source);
  revoke(source, info);
  replay(source, info);
  return info;
}

/** First byte of the copy that goes home to each block. */
function homes(log: LogBuilder, info: RecoveryInfo): Record<number, number> {
  return Object.fromEntries([...info.blocks].map(([block, { logBlock }]) => [block, log.logBlock(logBlock)[8]]));
}

const refuses = (log: LogBuilder, finding: RegExp) =>
  assert.throws(
    () => recover(log),
    (error: unknown) => error instanceof CorruptionError && finding.test(error.message),
  );

/** The record layouts that exist: every tag size, with and without checksums. */
const LAYOUTS: Record<string, LogOptions> = {
  'no features': { features: [] },
  '64bit': { features: ['REVOKE', '64BIT'] },
  'checksum v1': { features: ['REVOKE'], checksumV1: true },
  'checksum v2': { features: ['REVOKE', 'CSUM_V2'] },
  'checksum v2, 64bit': { features: ['REVOKE', 'CSUM_V2', '64BIT'] },
  'checksum v3': { features: ['REVOKE', 'CSUM_V3'] },
  'checksum v3, 64bit': { features: ['REVOKE', 'CSUM_V3', '64BIT'] },
};

describe('recovery', () => {
  for (const [name, layout] of Object.entries(LAYOUTS)) {
    describe(name, () => {
      it('takes the newest copy of each block', () => {
        const log = new LogBuilder(layout);
        log.transaction({
          blocks: [
            [1, 0x11],
            [2, 0x12],
          ],
        });
        log.transaction({
          blocks: [
            [2, 0x22],
            [3, 0x23],
          ],
        });
        const info = recover(log);
        assert.deepEqual(homes(log, info), { 1: 0x11, 2: 0x22, 3: 0x23 });
        assert.equal(info.transactions, 2);
        assert.equal(info.copies, 4);
        assert.equal(info.endTid, 3);
        assert.equal(info.endLogBlock, log.head);
      });

      it('reads transactions of more blocks than one descriptor names', () => {
        const log = new LogBuilder({ ...layout, logBlocks: 400 });
        const blocks = Array.from({ length: 300 }, (_, i) => [i % HOME_BLOCKS, i & 0xff] as const);
        log.transaction({ blocks });
        log.transaction({ blocks: [[5, 0x55]] });
        const info = recover(log);
        assert.equal(info.transactions, 2);
        assert.equal(info.copies, 301);
        assert.equal(homes(log, info)[5], 0x55);
      });

      it('goes on at the start of the ring', () => {
        const log = new LogBuilder({ ...layout, logBlocks: 16, start: 11 });
        log.transaction({
          blocks: [
            [1, 0x11],
            [2, 0x12],
          ],
        });
        log.transaction({
          blocks: [
            [3, 0x23],
            [4, 0x24],
          ],
        });
        log.transaction({ blocks: [[1, 0x31]], revokes: [3] });
        assert.ok(log.head < 11, 'the log has wrapped');
        assert.deepEqual(homes(log, recover(log)), { 1: 0x31, 2: 0x12, 4: 0x24 });
      });

      it('goes on after the largest tid', () => {
        const log = new LogBuilder({ ...layout, sequence: 0xfffffffe });
        log.transaction({
          blocks: [
            [1, 0x11],
            [2, 0x12],
          ],
        });
        log.transaction({ blocks: [[1, 0x21]], revokes: [2] });
        log.transaction({ blocks: [[3, 0x33]] });
        const { tid } = log.transaction({ blocks: [[3, 0x43]], revokes: [1] });
        assert.equal(tid, 1);
        const info = recover(log);
        assert.deepEqual(homes(log, info), { 3: 0x43 });
        assert.equal(info.endTid, 2);
      });

      it('ends before a transaction without a commit block', () => {
        const log = new LogBuilder(layout);
        log.transaction({ blocks: [[1, 0x11]] });
        log.transaction({ blocks: [[1, 0x21]], revokes: [1], commit: false });
        const info = recover(log);
        assert.deepEqual(homes(log, info), { 1: 0x11 });
        assert.equal(info.endTid, 2);
      });

      it('remembers which copies are escaped', () => {
        const escaped = filled(0x11);
        ownView(escaped).setUint32(0, JBD2_MAGIC);
        const log = new LogBuilder(layout);
        const { first } = log.transaction({
          blocks: [
            [1, escaped],
            [2, 0x12],
          ],
        });
        assert.equal(ownView(log.logBlock(first + 1)).getUint32(0), 0, 'the log holds no magic number');
        const info = recover(log);
        assert.equal(info.blocks.get(1)?.escaped, true);
        assert.equal(info.blocks.get(2)?.escaped, false);
      });
    });
  }

  it('skips copies up to the transaction that revoked the block, not later ones', () => {
    const log = new LogBuilder();
    log.transaction({
      blocks: [
        [1, 0x11],
        [2, 0x12],
      ],
    });
    log.transaction({ blocks: [[2, 0x22]], revokes: [1, 2] });
    log.transaction({ blocks: [[1, 0x31]] });
    const info = recover(log);
    // A revoke record voids the copy of its own transaction as well.
    assert.deepEqual(homes(log, info), { 1: 0x31 });
    assert.equal(info.revokeHits, 3);
  });

  it('does not check the checksum of a revoked copy', () => {
    const log = new LogBuilder({ features: ['REVOKE', 'CSUM_V3'] });
    const { first } = log.transaction({
      blocks: [
        [1, 0x11],
        [2, 0x12],
      ],
    });
    log.transaction({ revokes: [1] });
    log.logBlock(first + 1)[100] ^= 1;
    assert.deepEqual(homes(log, recover(log)), { 2: 0x12 });
  });

  it('survives a record whose block numbers have 33 bits', () => {
    const log = new LogBuilder({ features: ['REVOKE', '64BIT', 'CSUM_V3'] });
    log.transaction({
      blocks: [
        [0x1_0000_0001, 0x11],
        [1, 0x12],
      ],
    });
    log.transaction({ revokes: [0x1_0000_0001] });
    assert.deepEqual(homes(log, recover(log)), { 1: 0x12 });
  });

  it('ends at a transaction that is left from an earlier round', () => {
    const log = new LogBuilder({ sequence: 7 });
    log.transaction({ blocks: [[1, 0x11]] });
    const { first } = log.transaction({ blocks: [[1, 0x21]] });
    for (let i = first; i < log.head; i++) {
      const view = ownView(log.logBlock(i));
      if (view.getUint32(0) === JBD2_MAGIC) JOURNAL_HEADER.h_sequence.set(view, 0, 2);
    }
    const info = recover(log);
    assert.deepEqual(homes(log, info), { 1: 0x11 });
    assert.match(info.endReason, /transaction 2 where transaction 8/);
  });

  describe('with checksums', () => {
    const CSUM = { features: ['REVOKE', 'CSUM_V3'] } as const;

    it('refuses a damaged copy, a descriptor and a revoke block of a committed transaction', () => {
      for (const [damaged, finding] of [
        [0, /record of transaction 2/],
        [1, /record of transaction 2/],
        [2, /copy of block 1/],
      ] as const) {
        const log = new LogBuilder(CSUM);
        log.transaction({ blocks: [[5, 0x15]] });
        const { first } = log.transaction({
          blocks: [
            [1, 0x11],
            [2, 0x12],
          ],
          revokes: [9],
        });
        log.transaction({ blocks: [[3, 0x13]] });
        log.logBlock(first + damaged)[500] ^= 0x40;
        refuses(log, finding);
      }
    });

    it('refuses a damaged commit block', () => {
      const log = new LogBuilder(CSUM);
      log.transaction({ blocks: [[1, 0x11]] });
      log.logBlock(log.head - 1)[COMMIT_HEADER.h_commit_nsec.offset] ^= 1;
      refuses(log, /transaction 1: the checksum of its commit/);
    });

    it('takes a commit block of which only the first sector was written', () => {
      const log = new LogBuilder(CSUM);
      log.transaction({ blocks: [[1, 0x11]] });
      log.logBlock(log.head - 1).fill(0xee, 512);
      assert.equal(recover(log).transactions, 1);
    });

    it('ends at a damaged descriptor that was never committed', () => {
      const log = new LogBuilder(CSUM);
      log.transaction({ blocks: [[1, 0x11]] });
      const { first } = log.transaction({ blocks: [[1, 0x21]], commit: false });
      log.logBlock(first)[700] ^= 1;
      assert.equal(recover(log).endTid, 2);
    });

    it('takes damaged records older than the last commit for leftovers', () => {
      const log = new LogBuilder(CSUM);
      log.transaction({ blocks: [[1, 0x11]], seconds: 2000 });
      const { first } = log.transaction({ blocks: [[1, 0x21]], seconds: 1000 });
      log.logBlock(first)[700] ^= 1;
      const info = recover(log);
      assert.deepEqual(homes(log, info), { 1: 0x11 });
      assert.equal(info.endTid, 2);
    });

    it('takes a damaged commit block older than the last one for a leftover', () => {
      const log = new LogBuilder(CSUM);
      log.transaction({ blocks: [[1, 0x11]], seconds: 2000 });
      log.transaction({ blocks: [[1, 0x21]], seconds: 1000 });
      log.logBlock(log.head - 1)[COMMIT_HEADER.h_commit_nsec.offset] ^= 1;
      assert.equal(recover(log).endTid, 2);
    });

    it('ends before an interrupted asynchronous commit', () => {
      const log = new LogBuilder({ features: ['REVOKE', 'CSUM_V3', 'ASYNC_COMMIT'] });
      const { end } = log.transaction({ blocks: [[1, 0x11]] });
      log.transaction({ blocks: [[1, 0x21]] });
      log.logBlock(log.head - 1)[COMMIT_HEADER.h_commit_nsec.offset] ^= 1;
      const info = recover(log);
      assert.deepEqual(homes(log, info), { 1: 0x11 });
      assert.equal(info.endTid, 2);
      assert.equal(info.transactions, 1);
      assert.equal(info.endLogBlock, end);
    });
  });

  describe('with checksum v1', () => {
    it('refuses a transaction whose blocks do not add up', () => {
      const log = new LogBuilder({ checksumV1: true });
      const { first } = log.transaction({
        blocks: [
          [1, 0x11],
          [2, 0x12],
        ],
      });
      log.logBlock(first + 2)[9] ^= 1;
      refuses(log, /transaction 1: the checksum of its commit/);
    });

    it('ends before the last transaction if commits are asynchronous, and refuses one in the middle', () => {
      for (const follows of [false, true]) {
        const log = new LogBuilder({ features: ['REVOKE', 'ASYNC_COMMIT'], checksumV1: true });
        log.transaction({ blocks: [[1, 0x11]] });
        const { first } = log.transaction({ blocks: [[1, 0x21]] });
        if (follows) log.transaction({ blocks: [[1, 0x31]] });
        log.logBlock(first + 1)[9] ^= 1;
        if (follows) refuses(log, /transaction 2: .* a commit block follows/);
        else assert.deepEqual(homes(log, recover(log)), { 1: 0x11 });
      }
    });

    it('takes a commit block without a checksum, from before the feature was set', () => {
      const log = new LogBuilder({ checksumV1: true });
      log.transaction({ blocks: [[1, 0x11]] });
      const commit = log.logBlock(log.head - 1);
      commit.fill(0, COMMIT_HEADER.h_chksum_type.offset, COMMIT_HEADER.h_chksum.offset + 4);
      assert.equal(recover(log).transactions, 1);
    });
  });

  describe('with a hostile log', () => {
    it('refuses a home outside the device and a home inside the log', () => {
      const outside = new LogBuilder();
      outside.transaction({ blocks: [[HOME_BLOCKS + 32, 0x11]] });
      refuses(outside, /outside the device/);
      const inside = new LogBuilder();
      inside.transaction({ blocks: [[HOME_BLOCKS + 3, 0x11]] });
      refuses(inside, /part of the log/);
    });

    it('refuses an r_count larger than the block', () => {
      const log = new LogBuilder();
      const { first } = log.transaction({ revokes: [1] });
      REVOKE_HEADER.r_count.set(ownView(log.logBlock(first)), 0, BLOCK_SIZE + 4);
      refuses(log, /r_count/);
    });

    it('ends after one round of descriptors that never commit', () => {
      const log = new LogBuilder({ logBlocks: 8 });
      const { first } = log.transaction({ blocks: [[1, 0x11]], commit: false });
      const descriptor = log.logBlock(first).slice();
      for (let i = 1; i < 8; i++) log.logBlock(i).set(descriptor);
      assert.equal(recover(log).transactions, 0);
    });

    it('reads every block of random bytes as some end of the log or refuses it', () => {
      let state = 12345;
      const random = () => {
        state = (Math.imul(state, 1103515245) + 12345) >>> 0;
        return state >>> 16;
      };
      for (let round = 0; round < 300; round++) {
        const log = new LogBuilder({ logBlocks: 24, features: ['REVOKE', '64BIT'] });
        log.transaction({
          blocks: [
            [1, 0x11],
            [2, 0x12],
          ],
          revokes: [3],
        });
        log.transaction({ blocks: [[2, 0x22]], revokes: [1] });
        for (let i = 0; i < 4; i++) log.logBlock(1 + (random() % 8))[random() % 64] = random();
        try {
          recover(log);
        } catch (error) {
          assert.ok(error instanceof CorruptionError, String(error));
        }
      }
    });
  });
});
