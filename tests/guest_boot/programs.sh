#!/bin/busybox sh
# programs.sh BUSYBOX PERL-SCRIPT PROGRAMS: the work that tests/guest_boot/outputs compares; all input is made here.
busybox=$1 perl_script=$2 programs=$3
run() { "$busybox" "$@"; }
foreign() {
  name=$1
  shift
  "$programs/ld-linux-x86-64.so.2" --library-path "$programs" "$programs/$name" "$@"
}
dir=work.$$
run mkdir "$dir" && cd "$dir" || exit 1

echo "== awk-data"
run awk 'BEGIN { srand(42); x = 1; for (i = 0; i < 6000; ++i) { x = (x * 16807) % 2147483647; printf "%d %s%d %.6f\n", x, "k", x % 977, x / 2147483647 } }' >data
run wc data
echo "== digests"
for tool in md5sum sha1sum sha256sum sha512sum sha3sum; do run $tool <data; done
echo "== sort"
run sort data | run md5sum
run sort -k2,2 -k1,1n data | run md5sum
run sort -g -k3 data | run md5sum
echo "== awk-statistics"
run awk '{ n[$2]++; s += $3; q += $3 * $3; h = (h * 31 + $1) % 1000003; r += 1 / (1 + $3) } END { printf "%.10f %.10f %d %.12g\n", s, q, h, r; for (k in n) if (n[k] > 11) print k, n[k] | "'"$busybox"' sort" }' data
echo "== compress"
run gzip -9 -c data | run md5sum
run gzip -c data | run gunzip -c | run md5sum
run bzip2 -c data | run md5sum
run bzip2 -c data | run bunzip2 -c | run md5sum
echo "== text"
run grep -c '7.*3$' data
run sed -e 's/\([0-9]*\) k\([0-9]*\)/\2-\1/' -e '/9$/d' data | run md5sum
run cut -d ' ' -f 2 data | run sort | run uniq -c | run sort -rn | run head -n 5
run tr 'a-z0-9' 'n-za-m5-90-4' <data | run md5sum
run od -An -tx4 data | run tail -n 3
run diff data /dev/null | run md5sum
echo "== numbers"
run factor 9007199254740993 1234567890123456789 18446744073709551557
run expr 123456789 '*' 987654321
echo '2 64 ^ p 3 k 2 v p 17 23 + 5 * p' | run dc
echo 'scale=30; sqrt(2); 4*a(1); e(1); l(10); s(1)' | run bc -l
run printf '%x %o %e %.15g\n' 3735928559 511 12345.678 0.1
echo "== archive"
run mkdir tree && for i in 1 2 3 4 5 6 7 8 9; do run head -n $((i * 11)) data >tree/file$i; done
run tar c -f - -C tree file1 file5 file9 | run tar t -f -
(cd tree && run find . -type f | run sort | run cpio -o -H newc 2>/dev/null | run cpio -t 2>/dev/null)
echo "== shell"
i=0 a=0 b=1
while [ $i -lt 60 ]; do c=$((a + b)) a=$b b=$c i=$((i + 1)); done
echo $a
for i in 1 2 3 4 5 6 7 8; do (echo "job $i: $((i * i * i))" >out$i) & done
wait
run cat out1 out2 out3 out4 out5 out6 out7 out8
[ -n "$PERL" ] || PERL=/usr/bin/perl
if [ -x "$PERL" ]; then
  "$PERL" "$perl_script"
fi
echo "== xz-threads"
foreign xz -1 -T4 --block-size=16KiB -c data >data.xz && run md5sum data.xz
foreign xz -T4 -dc data.xz | run md5sum
echo "== sqlite-writers"
foreign sqlite3 base "create table t(a integer primary key, b text, c real);
  with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)
  insert into t select i, printf('%d-%x', (i * 7919) % 2003, i * i), i * 0.37 from n; create index ib on t(b);"
for i in 1 2 3 4; do
  foreign sqlite3 base '.timeout 60000' "begin immediate; update t set c = c + 1 where a < 500;
    insert into t(b, c) select 'p$i', a from t where a < 200; commit;" &
done
wait
foreign sqlite3 base "select count(*), printf('%.6f', sum(c)), max(b), min(b) from t; pragma integrity_check;"
echo "== luajit"
foreign luajit -e 'local s, x, t = 0, 1, {}
  for i = 1, 300000 do s = s + math.sin(i) * 0.5 / (1 + i % 7); x = bit.bxor(bit.lshift(x, 1), bit.rshift(x, 3), i) end
  for i = 1, 20000 do t[i] = tostring(i * 7919 % 20011) end
  table.sort(t)
  local u = require("ffi").new("uint64_t", 1)
  for i = 1, 200000 do u = u * 6364136223846793005ULL + 1442695040888963407ULL end
  print(string.format("%.13g", s), x, t[1], t[10000], t[20000], u)'
echo "== end"
cd .. && run rm -r "$dir"
exit 0
