/**
 * Serves a {@link FakeFs}: `fake-server.js DATAFILE MOUNTPOINT [OPTIONS as JSON]`. Prints "ready", and at the end one
 * line of JSON with what happened inside. SIGUSR2: memory is short.
 */
import { FileDevice } from '../../src/block/file-device.js';
import { MemoryDevice } from '../../src/block/memory-device.js';
import { mountFuse } from '../../src/fuse/mount.js';
import { Session } from '../../src/fuse/session.js';
import { FakeFs } from './fake-fs.js';

const [path, mountpoint, json] = process.argv.slice(2);
const options = JSON.parse(json ?? '{}') as {
  blkdev?: boolean;
  blockSize?: number;
  memory?: boolean;
  writeback?: boolean;
  ioUring?: boolean;
  acl?: boolean;
  throttleEvery?: number;
};
const blockSize = options.blockSize ?? 4096;
const file = FileDevice.open(path);
const device = options.memory ? new MemoryDevice(new Uint8Array(file.sizeBytes)) : file;
const fs = new FakeFs(blockSize, device);
file.releaseClaim();
const fuseFd = mountFuse({ source: path, mountpoint, blkdev: options.blkdev ?? false, blksize: blockSize });
if (options.throttleEvery !== undefined) {
  const timer = setInterval(() => {
    fs.throttle = true;
  }, options.throttleEvery);
  timer.unref();
}
const session = new Session({
  fs,
  fuseFd,
  device,
  blockSize,
  writeback: options.writeback,
  ioUring: options.ioUring,
  acl: options.acl,
  log: (line) => process.stderr.write(`${line}\n`),
  onBegin: () => process.stdout.write('ready\n'),
  onEnd: (error) => {
    process.stdout.write(
      `${JSON.stringify({
        error: error?.message ?? null,
        evicted: fs.evicted,
        syncs: fs.syncs,
        maps: fs.maps,
        writesBeside: fs.writesBeside(),
      })}\n`,
    );
    file.close();
  },
});
process.on('SIGUSR2', () => {
  session.relieveMemory();
  process.stdout.write('relieved\n');
});
session.start();
