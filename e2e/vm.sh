#!/usr/bin/env bash
# Deploys the stack in a virtual machine with what most people have and this machine may lack: a kernel with IPVS, so that the
# ports are those of the ingress mesh, and a current Docker engine. It is Debian 13 with Debian's own kernel and docker.io.
# At its end the machine loses its power under load, and what its disk has then is checked.
#
#   e2e/vm.sh            prints what the machine prints, and exits with 0 if all of e2e/vm/inside.sh and after-power-loss.sh held
#
# The machine is emulated in software, which works everywhere and is slow: on two cores that had other work, too, all tasks were
# ready after nine and a half minutes, and the run took twenty. Creating Debian takes a minute or two more.
# Needs Debian as root, mmdebstrap, e2fsprogs, qemu-system-x86, Rust, and Docker with the images of ./deploy.sh build --local and of
# e2e/rabbitmq.sh build. What it makes is in target/vm; the system's disk stays there for the next run.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
vm=${CARGO_TARGET_DIR:-target}/vm
broker=localhost/hops-rabbitmq:4.3
prefix=${HOPS_IMAGES:-localhost/hops}
images=("$prefix/configserver" "$prefix/accountservice" "$prefix/vipservice" "$prefix/edge" "$broker")
limit_minutes=${HOPS_VM_MINUTES:-25}
# Answered reads after which the power is cut, while more are on their way.
reads=150

main() {
    local program image status=0
    for program in mmdebstrap mke2fs qemu-system-x86_64 docker git; do
        command -v "$program" >/dev/null || fail "$program is missing: apt-get install mmdebstrap e2fsprogs qemu-system-x86 git, and Docker Engine"
    done
    [ "$(id -u)" = 0 ] || fail 'mmdebstrap needs root to create a Debian system: run this with sudo'
    for image in "${images[@]}"; do
        docker image inspect "$image" >/dev/null 2>&1 || fail "there is no image $image: ./deploy.sh build --local && e2e/rabbitmq.sh build"
    done
    mkdir -p "$vm"
    make_system
    make_work
    rm -f "$vm/data.img" "$vm/pid"
    mke2fs -q -t ext4 "$vm/data.img" 1G >/dev/null
    : >"$vm/log"
    cut_power &
    boot | tee "$vm/log" | grep -v '^vm: \(sent\|answered\) ' || status=$?
    kill "$!" 2>/dev/null || true
    wait "$!" 2>/dev/null || true
    [ "$status" != 124 ] || fail "not done after $limit_minutes minutes; HOPS_VM_MINUTES sets another limit"
    tr -d '\r' <"$vm/log" | grep -q '^vm: all of it held' || fail "the stack did not do in the machine what it should: $vm/log"
    e2e/vm/after-power-loss.sh "$vm"
}

# Kills the machine under load: what its kernel has not written to the disk is gone.
cut_power() {
    until [ "$(grep -c '^vm: answered ' "$vm/log")" -ge "$reads" ]; do sleep 0.2; done
    kill -KILL "$(cat "$vm/pid")"
}

fail() { printf 'vm.sh: %s\n' "$@" >&2; exit 1; }

# The system's disk, its kernel and its first file system; made once, and again after a change of this script.
make_system() {
    local root=$vm/root
    [ ! "$vm/system.img" -nt e2e/vm.sh ] || [ ! "$vm/system.img" -nt e2e/vm/hops-vm.service ] || return 0
    echo 'creating Debian 13, which takes a minute or two'
    rm -rf "$root"
    mmdebstrap --mode=root --variant=essential --format=directory \
        --include=linux-image-amd64,systemd-sysv,udev,docker.io,docker-cli,kmod,iproute2,curl,ca-certificates,procps,git \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "3"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        trixie "$root" >"$vm/mmdebstrap.log" 2>&1 </dev/null || {
        tail -n 20 "$vm/mmdebstrap.log" >&2
        fail 'mmdebstrap could not create Debian 13; its last lines are above'
    }
    # Images in memory are loaded sooner. Volumes are on a disk, as they are elsewhere.
    printf '%s\n' '/dev/vda / ext4 rw,noatime 0 1' 'tmpfs /var/lib/docker tmpfs size=2g 0 0' \
        '/dev/vdc /var/lib/docker/volumes ext4 rw,noatime 0 0' >"$root/etc/fstab"
    echo hops >"$root/etc/hostname"
    printf '[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n' >"$root/etc/systemd/network/10-all.network"
    install -m 0644 e2e/vm/hops-vm.service "$root/etc/systemd/system/hops-vm.service"
    mkdir -p "$root/work"
    chroot "$root" systemctl --quiet enable systemd-networkd docker hops-vm
    # Nothing here waits for an outside, a console, or the time of day.
    chroot "$root" systemctl --quiet mask systemd-networkd-wait-online.service systemd-timesyncd.service apt-daily.timer \
        apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty@tty1.service serial-getty@ttyS0.service
    cp "$root"/boot/vmlinuz-* "$vm/vmlinuz"
    cp "$root"/boot/initrd.img-* "$vm/initrd.img"
    mke2fs -q -t ext4 -d "$root" "$vm/system.new" 6G >/dev/null
    rm -rf "$root"
    mv "$vm/system.new" "$vm/system.img"
}

# A second disk: this checkout's last commit, the images, and what is to be done with them.
make_work() {
    local work=$vm/work
    rm -rf "$work" "$vm/work.img"
    mkdir "$work"
    git clone --quiet --depth 1 "file://$PWD" "$work/hops"
    docker save --output "$work/images.tar" "${images[@]}"
    cp e2e/vm/inside.sh "$work/"
    printf 'export HOPS_IMAGES=%q RABBITMQ_IMAGE=%q\n' "$prefix" "$broker" >"$work/environment"
    mke2fs -q -t ext4 -d "$work" "$vm/work.img" 1G >/dev/null
    rm -rf "$work"
}

# The first two disks are as before afterwards: what the machine writes is thrown away. The third one, of the volumes, keeps what
# has reached it when the power is cut. A processor without AVX is emulated several times as fast where checksums are computed,
# and the kernel is without what protects and watches other machines.
boot() {
    local disk=format=raw,if=virtio,snapshot=on,cache=unsafe
    timeout --foreground "${limit_minutes}m" qemu-system-x86_64 -accel tcg,thread=multi,tb-size=1024 -cpu Nehalem -smp 2 -m 4096 \
        -vga none -display none -monitor none -serial stdio -no-reboot -kernel "$vm/vmlinuz" -initrd "$vm/initrd.img" \
        -append "root=/dev/vda rw console=ttyS0 quiet net.ifnames=0 systemd.show_status=0 mitigations=off nokaslr apparmor=0 selinux=0 audit=0 \
init_on_alloc=0 hardened_usercopy=off randomize_kstack_offset=off psi=0 nowatchdog tsc=reliable" \
        -drive "file=$vm/system.img,$disk" -drive "file=$vm/work.img,$disk" \
        -drive "file=$vm/data.img,format=raw,if=virtio,cache=writeback" -pidfile "$vm/pid" -nic user,model=virtio-net-pci -device virtio-rng-pci </dev/null
}

main "$@"
