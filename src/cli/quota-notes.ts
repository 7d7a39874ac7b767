/** What the words usrquota, grpquota, prjquota, usrjquota= and grpjquota= come to on this image. */
import { RO_COMPAT } from '../ext4/features.js';
import type { Filesystem } from '../ext4/filesystem.js';
import { CommandError } from './command-error.js';
import type { MountOptions } from './mount-options.js';

const WORDS = { userLimits: 'usrquota', groupLimits: 'grpquota', projectLimits: 'prjquota' } as const;

/** Lines for whoever mounts, about words that do not do what they say. Throws CommandError as the kernel refuses. */
export function quotaNotes(image: string, { policy, namedQuotaFiles }: MountOptions, fs: Filesystem): string[] {
  const { geometry } = fs.volume;
  if (policy.projectLimits && (geometry.roCompat & RO_COMPAT.project) === 0)
    throw new CommandError(
      `${image}: prjquota: the image has no project feature; add it with tune2fs -O project,quota`,
    );
  if (fs.readOnly) return [];
  const hasQuota = (geometry.roCompat & RO_COMPAT.quota) !== 0;
  const lines: string[] = [];
  const words = (['userLimits', 'groupLimits', 'projectLimits'] as const).filter((key) => policy[key] === true);
  if (!hasQuota && words.length > 0) {
    const names = words.map((key) => WORDS[key]).join(', ');
    lines.push(
      `${names}: the image has no quota feature, so nothing is counted or limited; add it with tune2fs -O quota`,
    );
  }
  for (const word of namedQuotaFiles) {
    lines.push(
      hasQuota
        ? `${word}: ignored, for the image has the quota feature`
        : `${word}: that file is not kept right; run quotacheck before the kernel uses it`,
    );
  }
  return lines;
}
