import assert from 'node:assert/strict';
import { ImageError, type OwnDevice, openImage, replayImage } from '../../../src/index.js';
import { fsck, makeImage } from '../../support/mke2fs.js';

/** As short as a device can be. `failing` is asked before each call. */
function deviceOver(bytes: Uint8Array, failing: (method: string) => void = () => {}): OwnDevice {
  return {
    sizeBytes: bytes.length,
    read(offsetBytes, into) {
      failing('read');
      into.set(bytes.subarray(offsetBytes, offsetBytes + into.length));
    },
    write(offsetBytes, from) {
      failing('write');
      bytes.set(from, offsetBytes);
    },
    flush: () => failing('flush'),
  };
}

const codeOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => null,
    (error: unknown) => (error instanceof ImageError ? error.code : error),
  );

describe('a device of one’s own', () => {
  it('needs four members, and is left clean', async () => {
    const bytes = makeImage(16).slice();
    const image = await openImage(deviceOver(bytes));
    await image.writeFile('/file', 'content', { flush: true });
    await image.close();
    assert.equal(fsck(bytes).code, 0);
    const again = await openImage(deviceOver(bytes));
    assert.equal(await again.readFile('/file', 'utf8'), 'content');
    await again.close();
    assert.equal((await replayImage(deviceOver(bytes))).state, 'clean');
  });

  it('throws what becomes the error of an operation, after which others go on', async () => {
    const bytes = makeImage(16).slice();
    const first = await openImage(bytes);
    await first.mkdir('/dir');
    await first.writeFile('/dir/file', 'content');
    await first.close();
    let failure: Error | null = null;
    const image = await openImage(
      deviceOver(bytes, (method) => {
        if (failure !== null && method === 'read') throw failure;
      }),
    );
    failure = new Error('the cable is out');
    assert.equal(await codeOf(image.readFile('/dir/file')), 'EIO');
    failure = Object.assign(new Error('no rights'), { code: 'EACCES' });
    assert.equal(await codeOf(image.readFile('/dir/file')), 'EACCES');
    const said = await image.readFile('/dir/file').catch((error: Error) => error.message);
    assert.match(String(said), /no rights/);
    failure = null;
    assert.equal(await image.readFile('/dir/file', 'utf8'), 'content');
    await image.writeFile('/dir/other', 'more', { flush: true });
    await image.close();
    assert.equal(fsck(bytes).code, 0);
  });

  for (const broken of ['write', 'flush']) {
    it(`whose ${broken} throws fails the sync, is read-only from then on, and keeps what was synced before`, async () => {
      const bytes = makeImage(16).slice();
      let works = true;
      const image = await openImage(
        deviceOver(bytes, (method) => {
          if (!works && method === broken) throw new Error('gone');
        }),
      );
      await image.writeFile('/before', 'kept', { flush: true });
      works = false;
      assert.equal(await codeOf(image.writeFile('/after', 'lost', { flush: true })), 'EIO');
      // What the log cannot take; a failed write of a file's data is the file's affair.
      await codeOf(image.mkdir('/dir'));
      assert.notEqual(await codeOf(image.sync()), null);
      assert.equal(await codeOf(image.mkdir('/other')), 'EROFS');
      assert.equal(await image.readFile('/before', 'utf8'), 'kept');
      await codeOf(image.close());
      const again = await openImage(bytes);
      assert.equal(await again.readFile('/before', 'utf8'), 'kept');
      await again.close();
      assert.equal(fsck(bytes).code, 0);
    });
  }

  it('that answers with promises is refused', async () => {
    const bytes = makeImage(16).slice();
    const device = deviceOver(bytes);
    const patient = { ...device, read: async (at: number, into: Uint8Array) => device.read(at, into) };
    await assert.rejects(openImage(patient), /read\(\) returned a promise/);
  });

  it('is told what lies idle, and when it is not needed any more', async () => {
    const bytes = makeImage(16).slice();
    const told: string[] = [];
    const device = {
      ...deviceOver(bytes),
      discard: () => {
        told.push('discard');
      },
      close: () => {
        told.push('close');
      },
    };
    const image = await openImage(device, { policy: { discards: true } });
    await image.writeFile('/file', new Uint8Array(1 << 20), { flush: true });
    await image.unlink('/file');
    await image.close();
    assert.deepEqual([...new Set(told)], ['discard', 'close']);
  });
});
