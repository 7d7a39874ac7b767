import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasProcessorQuota, Patience } from '../../../src/fuse/patience.js';
import { withScratch } from '../../support/mke2fs.js';

describe('patience', () => {
  it('comes with requests that follow each other closely, and goes when none comes', () => {
    const patience = new Patience(2, false);
    assert.equal(patience.wait(1000), 0);
    patience.woken(1000.05);
    assert.ok(patience.wait(1000.1) > 0);
    for (let i = 1; i < 10; i++) {
      patience.woken(1000 + i * 100);
      patience.wait(1000 + i * 100);
    }
    assert.equal(patience.wait(3000), 0, 'requests far apart are not worth waiting for');
  });

  it('is never had where it could only hurt: one processor, or a quota of processor time', () => {
    for (const patience of [new Patience(1, false), new Patience(2, true)]) {
      patience.wait(1000);
      patience.woken(1000.05);
      assert.equal(patience.wait(1000.1), 0);
    }
  });

  it('sees a quota in the control group or above it, in either version', () => {
    withScratch((scratch) => {
      const proc = join(scratch, 'cgroup');
      const mounted = join(scratch, 'mounted');
      const put = (directory: string, name: string, text: string) => {
        mkdirSync(join(mounted, directory), { recursive: true });
        writeFileSync(join(mounted, directory, name), text);
      };
      assert.equal(hasProcessorQuota(proc, mounted), false, 'no control groups at all');
      writeFileSync(proc, '0::/job/step\n');
      put('job/step', 'cpu.max', 'max 100000\n');
      assert.equal(hasProcessorQuota(proc, mounted), false);
      put('job', 'cpu.max', '50000 100000\n');
      assert.equal(hasProcessorQuota(proc, mounted), true);
      writeFileSync(proc, '5:memory:/x\n4:cpu,cpuacct:/box\n');
      put('cpu,cpuacct/box', 'cpu.cfs_quota_us', '-1\n');
      assert.equal(hasProcessorQuota(proc, mounted), false);
      put('cpu,cpuacct/box', 'cpu.cfs_quota_us', '50000\n');
      assert.equal(hasProcessorQuota(proc, mounted), true);
    });
  });
});
