# Work for an interpreter: data structures, regular expressions, integers, floating point, processes.
# It stands alone: the guest has the interpreter and its libraries, but none of its modules.
$| = 1;

print "== perl-primes\n";
my @composite;
my $count = 0;
for my $i (2 .. 20000) {
  next if $composite[$i];
  ++$count;
  for (my $j = $i * $i; $j <= 20000; $j += $i) { $composite[$j] = 1 }
}
print "$count\n";

print "== perl-hash\n";
my ($x, %seen) = (1);
for (1 .. 20000) {
  $x = ($x * 16807) % 2147483647;
  $seen{$x % 1009} += $x & 0xff;
}
my $sum = 0;
$sum = ($sum * 31 + $seen{$_}) % 1000000007 for sort { $a <=> $b } keys %seen;
print scalar(keys %seen), " $sum\n";

print "== perl-float\n";
my ($s, $p) = (0, 1);
for my $i (1 .. 5000) {
  $s += sin($i) * exp(-$i / 1000) + sqrt($i) / log($i + 1) + atan2($i, 7) + $i ** 1.37;
  $p *= 1 + 1 / ($i * $i);
}
printf "%.15g %.17g %a\n", $s, $p, $s;

print "== perl-regex\n";
my $text = join ' ', map { sprintf '%s=%d;', chr(97 + $_ % 26) x (1 + $_ % 5), $_ * $_ } 1 .. 3000;
my $hits = () = $text =~ /\b([a-z])\1*=(\d*7\d*);/g;
(my $other = $text) =~ s/(\w+)=(\d+)/$2:\U$1/g;
print "$hits ", length($other), ' ', substr($other, 100, 60), ' ', unpack('%32C*', $other), "\n";

print "== perl-pack\n";
my $bytes = pack 'Q<d>s>n/a*w', 81985529216486895, 3.14159, -2, 'text', 300000;
print unpack('H*', $bytes), "\n";

print "== perl-processes\n";
my @results;
for my $i (1 .. 6) {
  pipe(my $read, my $write) or die;
  my $pid = fork() // die;
  if ($pid == 0) {
    close $read;
    my $f = 1;
    $f = ($f * $_) % 998244353 for 1 .. $i * 1000;
    print {$write} "$i $f\n";
    close $write;
    exit 0;
  }
  close $write;
  push @results, scalar <$read>;
  waitpid $pid, 0;
  die "child $i: $?" if $? != 0;
}
print @results;
