/**
 * Hostile images behind a real mount: the server as a child process, users of the mount in another, limits on both.
 * EXT4D_MOUNTS=200 tries more of them.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Mount, requireOrSkip, whyNoFuse, withMountpoint } from '../../support/server.js';
import { Campaign } from './campaign.js';
import type { Plan } from './damage.js';

const IMAGES = ['1k', '1k-dirty', '1k-orphan-file-dirty', '1k-data-journal', 'ext2', 'ext3-dirty', '4k'];
const MOUNTS = Number(process.env.EXT4D_MOUNTS ?? 28);
const AT_ONCE = 4;
const USE_SECONDS = 30;
/** A line of a stack trace: something was thrown that is no answer. */
const STACK = /^\s+at /m;

/** What people do with a mounted image; whether it works is not the question. */
const USE = `
cd "$0" || exit 0
find . -ls; find . -type f -exec head -c 65536 {} +; getfattr -R -d -m - .; stat -f .
for d in . d indexed lost+found; do
  mkdir $d/fresh-directory; echo data > $d/fresh; echo more >> $d/plain; ln $d/fresh $d/second; ln -s target $d/link
  mv $d/second $d/fresh-directory/; setfattr -n user.x -v value $d/fresh; chmod 600 $d/fresh; rm -f $d/link
done
truncate -s 100 d/holes; truncate -s 1M d/plain; dd if=/dev/zero of=d/attributed bs=1k count=20 conv=notrunc
mv d/nested indexed/; rm -rf d; sync .
`;

/** Exit code, or null when time was up. */
function useMount(mountpoint: string): Promise<number | null> {
  return new Promise((resolve) => {
    const child = spawn('timeout', ['-s', 'KILL', String(USE_SECONDS), 'sh', '-c', USE, mountpoint], {
      stdio: 'ignore',
    });
    child.on('exit', (code) => resolve(code));
  });
}

async function mountAndUse(campaign: Campaign, plan: Plan): Promise<'refused' | 'mounted'> {
  let outcome: 'refused' | 'mounted' = 'mounted';
  await withMountpoint(async (scratch, mountpoint) => {
    const image = join(scratch, 'image');
    writeFileSync(image, campaign.trial.damaged(plan));
    mkdirSync(mountpoint, { recursive: true });
    let mount: Mount;
    try {
      mount = await Mount.start(
        image,
        mountpoint,
        `errors=${plan.errors === 'remount-ro' ? 'remount-ro' : 'continue'}`,
      );
    } catch (error) {
      // Lines that say why, and the exit code for it: not the end of a program that went wrong.
      assert.match(String(error), /ext4d mount: exit 32: ext4d/);
      assert.doesNotMatch(String(error), STACK);
      outcome = 'refused';
      return;
    }
    try {
      const code = await useMount(mountpoint);
      assert.ok(code !== null && code !== 137, 'the users of the mount come to an end');
      if (plan.crash) await mount.kill();
      else assert.equal(await mount.unmount(), 0, mount.stderr);
      assert.doesNotMatch(mount.stderr, STACK);
    } finally {
      mount.cleanUp();
    }
  });
  return outcome;
}

describe('hostile images that are mounted', function () {
  this.timeout(600_000);

  before(function () {
    requireOrSkip(this as unknown as Mocha.Context, whyNoFuse());
  });

  it('are refused in one line, or served; neither the server nor a user of the mount crashes or hangs', async () => {
    const seed = Number(process.env.EXT4D_SEED ?? Date.now() & 0x3fffffff);
    const each = Math.ceil(MOUNTS / IMAGES.length);
    const outcomes = { refused: 0, mounted: 0 };
    const jobs: { campaign: Campaign; plan: Plan }[] = [];
    for (const name of IMAGES) {
      const campaign = await Campaign.on(name);
      for (const plan of campaign.sample(seed, each)) jobs.push({ campaign, plan });
    }
    const work = async () => {
      for (let job = jobs.pop(); job !== undefined; job = jobs.pop()) {
        const { campaign, plan } = job;
        try {
          outcomes[await mountAndUse(campaign, plan)]++;
        } catch (error) {
          throw new Error(`${(error as Error).message}\nEXT4D_SEED=${seed}\n${campaign.story(plan)}`);
        }
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    assert.ok(outcomes.mounted > 0, JSON.stringify(outcomes));
  });
});
