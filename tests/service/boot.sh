#!/bin/sh
# PID 1 of namespaces that are its own already (mount, pid, cgroup, uts, ipc, net): put a throw-away root together, make sure
# that nothing in it is the host's, and become systemd. booted.py starts it: boot.sh ROOM REPOSITORY
set -eu
room=$1 repository=$2 root=$1/m/root
refuse() { echo "refused: $*" >&2; exit 9; }

[ $$ = 1 ] || refuse "this is no PID namespace of its own"
mount --make-rprivate /
mount -t tmpfs -o size=1g room "$room/m"
mkdir "$room/m/up" "$room/m/work" "$room/m/up2" "$room/m/work2" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$room/m/up,workdir=$room/m/work" root "$root"
for place in run:755 tmp:1777 var/tmp:1777 dev:755; do
  mount -t tmpfs -o "mode=${place#*:}" private "$root/${place%:*}"
done
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for file in sys sysrq-trigger; do
  [ -e "$root/proc/$file" ] || continue
  mount --bind "$root/proc/$file" "$root/proc/$file"
  mount -o remount,bind,ro "$root/proc/$file"
done
mkdir "$root/dev/pts" "$root/dev/shm"
for name in null zero full random urandom tty; do
  : >"$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

# The program under test, at a place that every user can reach; what is written there vanishes, too.
mkdir -p "$root/opt/ai-producer"
mount -t overlay -o "lowerdir=$repository,upperdir=$room/m/up2,workdir=$room/m/work2" program "$root/opt/ai-producer"

# What is not under test is not started, above all nothing that cleans directories or sets the machine up.
units=$root/run/systemd/system
mkdir -p "$units" "$root/etc/systemd/journald.conf.d" "$root/run/lock"
for unit in systemd-sysctl.service systemd-modules-load.service systemd-tmpfiles-setup.service systemd-tmpfiles-clean.service \
  systemd-tmpfiles-setup-dev.service systemd-remount-fs.service systemd-timesyncd.service systemd-binfmt.service systemd-udevd.service \
  systemd-udev-trigger.service systemd-random-seed.service systemd-update-utmp.service systemd-machine-id-commit.service \
  kmod-static-nodes.service modprobe@.service timers.target systemd-udevd-control.socket systemd-udevd-kernel.socket \
  dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
  sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount; do
  ln -s /dev/null "$units/$unit"
done
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/test.conf"
rm -f "$root/etc/machine-id"
systemd-id128 new >"$root/etc/machine-id"
: >"$root/etc/fstab"
ip link set lo up

for place in run tmp var/tmp dev; do
  [ "$(stat -f -c %T "$root/$place")" = tmpfs ] || refuse "$place is not private"
done
[ "$(stat -f -c %T "$root")" = overlayfs ] || refuse "the root is not an overlay"
cd "$root"
mkdir .old
pivot_root . .old
umount -l /.old
rmdir /.old
mount --make-rshared /
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio,-syslog,-wake_alarm,-block_suspend,-mac_admin,-mac_override \
  /lib/systemd/systemd --system --unit=basic.target --show-status=no
