#!/usr/bin/env bash
# The program as a user sees it: exit codes, streams, files. Usage: cli_test.sh LIMPID
set -u
export LC_ALL=C.UTF-8

limpid=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
checks=0

check() {  # check WHAT CONDITION...
  local what=$1
  shift
  checks=$((checks + 1))
  if ! "$@"; then
    failures=$((failures + 1))
    echo "FAILED: $what"
    echo "  stdout: $(head -c 300 out)"
    echo "  stderr: $(head -c 300 err)"
  fi
}

expect() {  # expect CODE ARGUMENT...: runs limpid, keeps its streams in `out` and `err`
  local code=$1 got=0
  shift
  "$limpid" "$@" >out 2>err || got=$?
  check "limpid $* exits with $code, not $got" test "$got" -eq "$code"
}

empty() { [ ! -s "$1" ]; }
one_error_line() { [ "$(wc -l <err)" -eq 1 ] && grep -q '^limpid: ' err; }
has_command() { grep -qx "$1" <<<"$commands"; }
is_json_object() { [ "$(head -c 1 "$1")" = '{' ] && [ "$(tail -c 2 "$1")" = '}' ]; }

card() { printf '%-80s' "$1"; }

make_fits() {  # make_fits FILE SIDE: a flat 16-bit frame with some structure
  local file=$1 side=$2
  {
    card "SIMPLE  =                    T"
    card "BITPIX  =                   16"
    card "NAXIS   =                    2"
    card "NAXIS1  =                 $(printf '%4d' "$side")"
    card "NAXIS2  =                 $(printf '%4d' "$side")"
    card "BZERO   =                32768"
    card "OBJECT  = 'flat    '"
    card "END"
    printf '%*s' $((2880 - 8 * 80)) ''
    head -c $((2 * side * side)) /dev/zero | tr '\0' 'A'
    head -c $(((2880 - 2 * side * side % 2880) % 2880)) /dev/zero
  } >"$file"
}

# pixels of FITS files: $v at ($x, $y)
write_fits() {  # write_fits FILE BITPIX SIDE EXPRESSION
  perl -e '
    my ($file, $bitpix, $side, $code) = @ARGV;
    my $value = eval "sub { my (\$x, \$y) = \@_; $code }" or die $@;
    my @cards = ("SIMPLE  =                    T", "NAXIS   =                    2");
    push @cards, map { sprintf("%-8s= %20d", @$_) } ["BITPIX", $bitpix], ["NAXIS1", $side], ["NAXIS2", $side];
    my $header = join "", map { sprintf "%-80s", $_ } @cards[0, 2, 1, 3, 4], "END";
    my @pixels = map { my $y = $_; map { $value->($_, $y) } 0 .. $side - 1 } 0 .. $side - 1;
    my $data = pack $bitpix == 8 ? "C*" : $bitpix == 16 ? "s>*" : "f>*", @pixels;
    open my $out, ">:raw", $file or die $!;
    print $out $header, " " x (-length($header) % 2880), $data, "\0" x (-length($data) % 2880);
  ' "$@"
}
change_fits() {  # change_fits FILE EXPRESSION: of 32-bit floats, in all channels
  perl -0777 -i -pe '
    BEGIN { $code = pop @ARGV; $new = eval "sub { my (\$v, \$x, \$y) = \@_; $code }" or die $@ }
    /\A(?:.{80})*?END {77}/s; my $begin = 2880 * int(($+[0] + 2879) / 2880);
    my ($w) = /NAXIS1 *= *(\d+)/, my ($h) = /NAXIS2 *= *(\d+)/;
    my @p = unpack "f>*", substr $_, $begin;
    $p[$_] = $new->($p[$_], $_ % $w, int($_ / $w) % $h) for 0 .. $#p;
    substr($_, $begin) = pack "f>*", @p;
  ' "$@"
}
mean_of() {  # mean_of FILE X Y SIDE: of a square in the first channel
  perl -0777 -ne '
    BEGIN { ($x, $y, $side) = splice @ARGV, 1 }
    /\A(?:.{80})*?END {77}/s; my $begin = 2880 * int(($+[0] + 2879) / 2880);
    my ($w) = /NAXIS1 *= *(\d+)/, my $sum = 0;
    for my $v ($y .. $y + $side - 1) {
      $sum += $_ for unpack "f>$side", substr $_, $begin + 4 * ($v * $w + $x);
    }
    print $sum / $side ** 2, "\n";
  ' "$@"
}
shift_to() {  # shift_to FILE OTHER: by how many columns FILE must be moved to be most like OTHER
  perl -e '
    sub channel {
      local $/; open my $in, "<:raw", $_[0] or die $!; local $_ = <$in>;
      /\A(?:.{80})*?END {77}/s; my $begin = 2880 * int(($+[0] + 2879) / 2880);
      my ($w) = /NAXIS1 *= *(\d+)/, my ($h) = /NAXIS2 *= *(\d+)/;
      return $w, unpack "f>" . $w * $h, substr $_, $begin;
    }
    my ($w, @a) = channel($ARGV[0]), my (undef, @b) = channel($ARGV[1]), my %off;
    for my $s (-4 .. 4) { $off{$s} += abs $a[$_ - $s] - $b[$_] for 4 .. $#b - 4 }
    print +(sort { $off{$a} <=> $off{$b} } keys %off)[0], "\n";
  ' "$@"
}

# ---- every command ----

expect 0 --version
check "the version is on standard output" grep -q '^limpid [0-9]*\.[0-9]*\.[0-9]*$' out
expect 0 --help
commands=$(sed -n '/^Subcommands:/,$p' out | sed -n 's/^  \([a-z]*\) .*/\1/p')
check "there are commands" test -n "$commands"
for command in $commands; do
  expect 0 "$command" --help
  check "limpid $command --help ends with an example" grep -q "^  limpid $command" out
  check "limpid $command --help is silent on standard error" empty err
  expect 0 "$command" --schema
  check "limpid $command --schema is a JSON object" is_json_object out
  expect 2 "$command" --no-such-option
  check "limpid $command tells of a wrong option in one line" one_error_line
  check "limpid $command has no result then" empty out
done

expect 2
expect 2 no-such-command
check "an unknown command is told of in one line" one_error_line

# ---- the page ----

if has_command serve; then
  expect 3 serve no-such-folder
  check "serve tells of a missing folder in one line" one_error_line
  expect 2 serve --port 70000
fi

# ---- files ----

if has_command info; then
  make_fits flat.fits 40
  make_fits "Pferdekopf-Nebel größer 馬頭.fits" 40
  printf 'not an image' >nonsense.fits
  head -c 3000 flat.fits >short.fits

  expect 0 info flat.fits
  check "the size is told" grep -q '40' out
  expect 0 info --json flat.fits
  check "info --json is one object" is_json_object out
  expect 0 info "Pferdekopf-Nebel größer 馬頭.fits"
  for file in missing.fits nonsense.fits; do
    expect 3 info "$file"
    check "info $file: one line that names the file" grep -q "^limpid: .*$file" err
    check "info $file: nothing on standard output" empty out
  done
  expect 3 info nonsense.fits flat.fits
  check "the good file is told of all the same" grep -q '40' out
  expect 3 info --json nonsense.fits flat.fits
  check "the batch is one JSON object too" is_json_object out
  "$limpid" info flat.fits >/dev/full 2>err
  check "a full standard output is exit code 4" test $? -eq 4
fi

if has_command convert; then
  expect 0 convert flat.fits flat.xisf
  check "convert writes its output" test -s flat.xisf
  cp flat.xisf before.xisf
  expect 4 convert flat.fits flat.xisf
  check "an existing output is told of in one line" one_error_line
  check "an existing output stays as it was" cmp -s flat.xisf before.xisf
  expect 0 convert --overwrite flat.fits flat.xisf
  expect 4 convert flat.fits no-such-folder/flat.xisf
  expect 2 convert flat.fits flat.docx
  expect 3 convert short.fits short.xisf
  check "no output of a broken input" test ! -e short.xisf
  expect 0 convert --stretch-as flat.fits --region 4,4,16,8 --zoom 2 flat.fits part.png
  check "the part is a picture" test -s part.png
  expect 3 convert --stretch-as missing.fits flat.fits part2.png
  expect 2 convert --region 30,30,20,20 flat.fits part2.png
  expect 0 convert flat.xisf back.fits
  expect 0 info --json back.fits
  check "the header came through XISF and back" grep -q 'flat' out
  expect 0 convert "Pferdekopf-Nebel größer 馬頭.fits" "größer 馬頭.tif"

  # a folder of files; one of them is broken
  expect 3 convert flat.fits nonsense.fits "Pferdekopf-Nebel größer 馬頭.fits" all/ --format xisf
  check "the good files of a batch are converted" test -s all/flat.xisf -a \
    -s "all/Pferdekopf-Nebel größer 馬頭.xisf" -a ! -e all/nonsense.xisf
  expect 2 convert flat.fits other.xisf --format fits
  check "an ending and another --format are told of" grep -q 'ending' err

  # streams
  "$limpid" convert -q flat.fits - --format xisf --compress zstd >stream.xisf 2>err
  check "a frame on standard output is exit code 0" test $? -eq 0
  expect 0 info stream.xisf
  check "what went through standard output is whole" grep -q 'xisf, 40 x 40.*zstd' out
  "$limpid" convert -q - - <stream.xisf 2>err | "$limpid" info - >out 2>>err
  check "standard input is read, and its format kept" grep -q '^-: xisf, 40 x 40' out
  expect 2 convert flat.fits - --json
  check "a frame and JSON do not share standard output" empty out
  "$limpid" convert -q flat.fits - >/dev/full 2>err
  check "a full standard output is exit code 4 for a frame, too" test $? -eq 4
fi

if has_command mfdeconv; then
  mkdir stacked
  expect 2 mfdeconv flat.fits flat.fits -o stacked/
  check "a folder is no name of a frame, and the error says so" grep -q 'stacked/: a folder' err
fi

if has_command measure; then
  expect 0 measure --json flat.fits
  check "measure --json is one object, for a frame without stars too" is_json_object out
  expect 3 measure missing.fits
  expect 1 measure flat.fits --stars no-stars.csv --psf no-psf.fits
  check "without stars there is no PSF, and no table either" test ! -e no-stars.csv -a ! -e no-psf.fits
  expect 2 measure flat.fits --picture map.png
  check "no SVG is called PNG" test ! -e map.png
fi

if has_command train; then
  echo 'steps = 1' >steps.toml
  expect 4 train steps.toml -o no-such-folder/weights.safetensors
  check "train tells of a missing folder before it begins" one_error_line
  expect 3 train steps.toml -o weights.safetensors --corpus missing.safetensors
  check "and leaves nothing of a run that cannot begin" test -z "$(find . -name 'weights*')"
fi

make_slope() {  # make_slope FILE SIDE: 16-bit noise on a slope
  local file=$1 side=$2
  {
    card "SIMPLE  =                    T"
    card "BITPIX  =                   16"
    card "NAXIS   =                    2"
    card "NAXIS1  =                 $(printf '%4d' "$side")"
    card "NAXIS2  =                 $(printf '%4d' "$side")"
    card "BZERO   =                32768"
    card "END"
    printf '%*s' $((2880 - 7 * 80)) ''
    LC_ALL=C awk -v side="$side" 'BEGIN {
      srand(1)
      for (y = 0; y < side; ++y) for (x = 0; x < side; ++x) {
        value = 5000 + 20 * x + 10 * y + int(200 * (rand() + rand() + rand()))
        printf "\\%03o\\%03o", int(value / 256) % 256, value % 256
      }
    }' | while read -r -n 40000 part || [ -n "$part" ]; do printf '%b' "$part"; done
    head -c $(((2880 - 2 * side * side % 2880) % 2880)) /dev/zero
  } >"$file"
}

if has_command background; then
  make_slope slope.fits 120
  expect 0 background --json slope.fits -o even.fits --preview sky.png --model sky-model.fits --points sky.json
  check "background --json is one object" is_json_object out
  check "background writes all it was asked for" test -s even.fits -a -s sky.png -a -s sky-model.fits -a -s sky.json
  expect 0 background slope.fits -o again.fits --points sky.json
  check "saved points are used again" grep -q 'used as they are' err
  echo '{"points": [{"x": 9, "y": 9}, {"x": 110, "y": 9}, {"x": 9, "y": 110}, {"x": 110, "y": 110}]}' >places.json
  expect 0 background slope.fits -o placed.fits --points places.json
  check "points may be places alone" grep -q '4 control points used as they are' err
  echo '{"points": [{"x": 9}]}' >places.json
  expect 3 background slope.fits -o none.fits --points places.json
  echo '{"points": [{"x": 9, "y": 1e999}]}' >places.json
  expect 3 background slope.fits -o none.fits --points places.json
  four='{"x": 9, "y": 9}, {"x": 110, "y": 9}, {"x": 9, "y": 110}, {"x": 110, "y": 110}'
  beyond='"correction": {"columns": 3, "rows": 3, "values": [[0, 0, 0, 0, 0, 0, 0, 0, 0]]}'
  echo "{\"points\": [$four], \"removed\": [{\"x\": 60, \"y\": 60}], $beyond}" >places.json
  expect 0 background slope.fits -o moved.fits --points places.json
  echo "{\"points\": [$four], \"removed\": [{\"x\": 60}], $beyond}" >places.json
  expect 3 background slope.fits -o none.fits --points places.json
  echo "{\"points\": [$four], \"correction\": {\"columns\": 3, \"rows\": 4, \"values\": [[0]]}}" >places.json
  expect 3 background slope.fits -o none.fits --points places.json
  expect 0 background slope.fits -o again.tif --model sky-model.png
  check "a model can be a PNG" test -s sky-model.png
  expect 0 background slope.fits -o divided.fits --mode divide --neutral --dither --max-iterations 20
  expect 4 background slope.fits -o even.fits
  check "an existing output is told of in one line" one_error_line
  expect 3 background flat.fits -o none.fits
  check "a constant frame has no sky" grep -q 'flat.fits: .*constant' err
  expect 2 background slope.fits -o none.fits --mask flat.fits
  check "a mask of another size is told of" grep -q 'flat.fits: a mask of 40 x 40 pixels; slope.fits has' err
  expect 3 background slope.fits -o none.fits --points flat.fits
  expect 2 background slope.fits -o none.fits --order 4
  expect 3 background missing.fits -o none.fits
  expect 4 background slope.fits -o none.fits --points no-such-folder/sky.json
  check "what cannot be written in the end is told of at once" one_error_line
  expect 2 background slope.fits -o none.fits --model none.fits
  check "two outputs of one name are told of" grep -q 'none.fits: two outputs' err
  check "no output after an error" test ! -e none.fits
  expect 3 background slope.fits missing.fits flat.fits -o evened/
  check "the good frame of a batch is done" test -s evened/slope.fits
fi

if has_command deconvolve; then
  expect 6 deconvolve flat.fits -o sharp.fits --psf 3 --ai nonsense.fits
  check "bad weights are told of in one line" one_error_line
  expect 1 deconvolve flat.fits -o sharp.fits
  check "a frame without stars is named, with what helps" grep -q '^limpid: flat.fits: no field of stars.*--psf' err
  expect 2 deconvolve flat.fits -o sharp.fits --sharpen-stars 0.9
  check "a value out of range is told of with the range" grep -q '0\.\.0\.7' err
  for option in '--threads 1.5' '--threads 1e3' '--region 0,0,a,b' '--adjust-halos 0,1'; do
    expect 2 deconvolve flat.fits -o sharp.fits $option
    check "$option: the word that is no number is shown" grep -q "^limpid: ${option% *}: .*number" err
  done

  expect 0 simulate --width 320 --height 256 -o sky.fits
  expect 0 deconvolve sky.fits -o sky-sharp.fits --psf 3 --no-stars --trust-map map.fits \
    --report report.json
  check "the trust map is written" test -s map.fits
  check "the report tells of the re-blurring" grep -q '"reblurring"' report.json
  expect 4 deconvolve sky.fits -o other.fits --psf 3 --no-stars --trust-map map.fits
  check "an existing trust map stops the run first" test ! -e other.fits
  expect 0 deconvolve sky.fits -o other.fits --psf 3 --no-stars --report report2.json
  check "a report comes without a map too" grep -q '"reblurring"' report2.json
  expect 2 deconvolve sky.fits flat.fits -o folder/ --trust-map map2.fits
  expect 4 deconvolve sky.fits -o other2.fits --psf 3 --no-stars --report no-such-folder/report.json
  check "a report that cannot be written stops the run first" test ! -e other2.fits
  expect 0 deconvolve sky.fits -o judged.fits --psf 3 --no-stars --judge sky-sharp.fits --report judged.json
  check "a result is judged as it was when it was made" \
    test "$(grep residual_rms report.json)" = "$(grep residual_rms judged.json)"
  expect 2 deconvolve sky.fits -o none.fits --psf 3 --no-stars --judge flat.fits

  # a part of the frame is not where PixInsight's own solution has it
  expect 0 convert sky.fits solved.xisf
  perl -0777 -i -pe 's{</Image>}{<Property id="PCL:AstrometricSolution:Catalog" type="String" value="x"/></Image>};
    s{(</xisf>)\0{72}}{$1}; substr($_, 8, 4) = pack "V", 72 + unpack "V", substr $_, 8, 4' solved.xisf
  check "the frame has a solution" grep -q 'PCL:AstrometricSolution' <("$limpid" info --json solved.xisf)
  expect 0 deconvolve solved.xisf -o part.xisf --psf 3 --no-stars --region 64,32,128,96
  check "a part of the frame leaves the solution out, and says so" grep -q "left out.*PixInsight's astrometric solution" err
  check "it is out" test -z "$("$limpid" info --json part.xisf | grep PCL:Astro)"
  expect 0 deconvolve solved.xisf -o corner.xisf --psf 3 --no-stars --region 0,0,128,96
  check "a part that begins where the frame does keeps it" grep -q 'PCL:AstrometricSolution' \
    <("$limpid" info --json corner.xisf)

  expect 0 simulate --width 512 --height 400 --star-count 250 -o few.fits
  expect 0 measure few.fits --psf psf.fits
  check "the measured PSF is a frame of 64 px kernels" grep -q '576 x 448' <("$limpid" info psf.fits)
  expect 4 measure few.fits --psf psf.fits

  # LibTorch is loaded where it is needed: the program where that library is not to be found
  check "the program starts without LibTorch" test "$(ldd "$limpid" | grep -c torch)" -eq 0
  mkdir bare
  cp "$(ldd "$limpid" | awk '$1 ~ /^liblimpid[.]/ { print $3 }')" bare
  bare() { LD_LIBRARY_PATH=$PWD/bare${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} expect "$@"; }
  lacks_torch() { one_error_line && grep -q "^limpid: $1 needs LibTorch: liblimpid-torch[.]" err; }
  bare 0 --version
  if [ "$(uname -m)" = x86_64 ]; then
    bare 0 deconvolve sky.fits -o bare.fits --psf 3 --no-stars --precision f32
    check "a frame is restored without LibTorch" test -s bare.fits
  fi
  echo 'steps = 1' >steps.toml
  bare 1 train steps.toml -o weights.safetensors
  check "training says what it lacks" lacks_torch training
  weights=$("$limpid" models --json | sed -n 's/.*"file": "\(.*\)",/\1/p' | head -1)
  bare 1 evaluate "$weights" --network-only
  check "so does the evaluation" lacks_torch evaluation
  bare 1 simulate -o none.fits
  check "so does the simulator" lacks_torch 'the simulator'
  bare 1 deconvolve sky.fits -o none.fits --psf 3 --no-stars --device cuda
  check "so does a graphics card" lacks_torch 'a graphics card'

  make_fits big.fits 4000
  for signal in INT TERM; do
    : >out
    "$limpid" deconvolve big.fits -o sharp.fits --psf 3 --device cpu --progress plain >out 2>err &
    pid=$!
    # in the middle of its work, however fast the machine is
    until [ "$(wc -l <out)" -ge 3 ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
    kill -$signal "$pid"
    wait "$pid"
    check "SIG$signal is exit code 130" test $? -eq 130
    check "SIG$signal: one line" one_error_line
    check "SIG$signal leaves no output" test ! -e sharp.fits
  done
fi

if has_command mfdeconv; then
  # three frames of one sky, which differ in their noise
  mkdir lights
  expect 0 simulate --width 256 --height 256 --star-count 300 -o lights/a.fits
  for name in b c; do
    cp lights/a.fits "lights/$name.fits"
    change_fits "lights/$name.fits" "return \$v + 1e-4 * sin(($(printf %d "'$name") + \$x) * (17 + \$y))"
  done
  printf 'not an image' >lights/broken.fits
  expect 0 mfdeconv lights/a.fits lights/b.fits lights/broken.fits lights/c.fits -o deep.fits \
    --iterations 2 --report deep.json
  check "the broken frame is named" grep -q 'broken.fits' err
  check "three frames are used" grep -q '"frames_used": 3' deep.json
  check "there is a convergence curve" grep -q '<polyline' deep.svg
  for key in MFDECONV MF_COLOR MF_RHO MF_HDEL MF_MASK MF_VAR MF_SR MF_ITMAX MF_ITERS MF_ESTOP MF_RSTR \
    MF_SHAPE; do
    check "the result carries $key" grep -qa "^$key \|$key *=" deep.fits
  done
  check "the result lists its frames" grep -qa 'mfdeconv frame: b.fits' deep.fits
  expect 4 mfdeconv lights/a.fits lights/b.fits -o deep.fits
  expect 3 mfdeconv lights/a.fits lights/broken.fits -o none.fits
  check "too few frames are told of in the last line" grep -q 'at least two' err
  make_fits tiny.fits 20
  expect 3 mfdeconv tiny.fits tiny.fits -o none.fits
  check "frames that are too small are called so" grep -q 'tiny.fits: left out, 20 x 20 pixels; at least 32' err
  expect 2 mfdeconv lights/a.fits lights/b.fits -o none.fits --memory lots
  expect 2 mfdeconv lights/a.fits lights/b.fits -o none.fits --resume
  expect 5 mfdeconv lights/a.fits lights/b.fits -o none.fits --memory 1M
  check "too little memory is told of in one line" one_error_line
  check "no output of a run that failed" test ! -e none.fits

  expect 5 mfdeconv lights/?.fits -o none.fits --device cuda:99
  check "a device that is not there is told of in one line" one_error_line
  expect 2 mfdeconv lights/?.fits -o none.fits --device gpu
  for delta in 0 nan inf; do expect 2 mfdeconv lights/?.fits -o none.fits --huber-delta $delta; done

  # a plane in one frame, and masks of whole numbers and of fractions that tell where
  mkdir spoiled masks few
  cp lights/[abc].fits spoiled
  in_plane='$x >= 100 && $x < 124 && $y >= 90 && $y < 114'
  change_fits spoiled/a.fits "return $in_plane ? \$v + 0.1 : \$v"
  solve=(--iterations 3 --loss l2 -q --overwrite)  # so that nothing but the mask protects
  plane() { mean_of "$1" 104 94 16; }
  near() { awk -v a="$1" -v b="$2" -v c="$3" 'BEGIN { d = a - b; exit !(d < c && -d < c) }'; }
  expect 0 mfdeconv lights/[abc].fits -o clean.fits "${solve[@]}"
  expect 0 mfdeconv spoiled/[abc].fits -o plane.fits "${solve[@]}"
  brighter() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > b + 0.02) }'; }
  check "without a mask the plane is there" brighter "$(plane plane.fits)" "$(plane clean.fits)"
  for mask in '8 1' '8 255' '16 1000' '-32 1'; do
    write_fits masks/a.fits ${mask% *} 256 "$in_plane ? ${mask#* } : 0"
    expect 0 mfdeconv spoiled/[abc].fits -o masked.fits "${solve[@]}" --rejection-masks masks
    check "a mask of $mask rejects the plane" near "$(plane masked.fits)" "$(plane clean.fits)" 0.002
  done
  write_fits masks/a.fits -32 256 "$in_plane ? 0.4 : 0"
  expect 0 mfdeconv spoiled/[abc].fits -o masked.fits "${solve[@]}" --rejection-masks masks
  check "what is not over 0.5 is kept" cmp -s <(tail -c 786432 masked.fits) <(tail -c 786432 plane.fits)
  write_fits masks/a.fits 8 128 1
  expect 0 mfdeconv spoiled/[abc].fits -o masked.fits --iterations 1 --overwrite --rejection-masks masks
  check "a mask that is too small leaves its frame out" grep -q 'left out.*masks/a.fits: smaller' err
  for option in --rejection-masks --psf-dir; do
    expect 3 mfdeconv lights/?.fits -o none.fits $option missing
    check "a missing folder of $option is told of in one line" one_error_line
    expect 3 mfdeconv lights/?.fits -o none.fits $option few
    check "so is one in which no file is named like a frame" one_error_line
  done

  # given PSFs are convolved with: where all lie 2 px to the right, stars were 2 px to the left
  mkdir psfs
  moffat='1 / (1 + (($x - 20 - $dx) ** 2 + ($y - 20) ** 2) / 6) ** 3'
  for dx in 0 2; do
    for name in a b c; do write_fits psfs/$name.fits -32 41 "my \$dx = $dx; $moffat"; done
    expect 0 mfdeconv lights/[abc].fits -o given-$dx.fits --iterations 10 -q --psf-dir psfs --report given.json \
      --overwrite
    check "no PSF is measured" test "$(grep -c '"fwhm_px": 0.0' given.json)" -eq 3
  done
  check "stars lie where the PSFs say" test "$(shift_to given-2.fits given-0.fits)" -eq 2
  write_fits psfs/b.fits -32 41 0
  printf 'no image' >psfs/c.fits
  expect 3 mfdeconv lights/[abc].fits -o none.fits --psf-dir psfs
  check "PSFs without light and unreadable ones are named" test "$(grep -c 'psfs/[bc].fits' err)" -ge 2
  check "no output of a run that failed" test ! -e none.fits

  # the other formats, read by parts, and a stack to begin with
  for format in xisf tif; do
    for name in a b; do expect 0 convert lights/$name.fits $name.$format; done
    expect 0 mfdeconv a.$format b.$format -o of-$format.fits --iterations 2 --min-iterations 2 --memory 600M
  done
  expect 0 mfdeconv lights/a.fits lights/b.fits -o of-fits.fits --iterations 2 --min-iterations 2 --memory 600M
  for format in xisf tif; do
    check "frames in $format give the pixels of those in FITS" \
      cmp -s <(tail -c 786432 of-$format.fits) <(tail -c 786432 of-fits.fits)
  done
  expect 0 mfdeconv lights/[abc].fits -o seeded.fits --iterations 1 --seed clean.fits
  expect 3 mfdeconv lights/[abc].fits -o none.fits --seed missing.fits
  check "a missing seed is told of in one line" one_error_line
  write_fits even.fits -32 256 7
  expect 3 mfdeconv lights/[abc].fits -o none.fits --seed even.fits --color luma
  check "a seed that shows nothing is told of in one line" one_error_line
  expect 3 mfdeconv lights/[abc].fits -o none.fits --seed tiny.fits --color luma
  check "a seed of another size is told of with both sizes" grep -q '20 x 20 pixels; the frames have 256 x 256' err
  mkdir none twice
  for name in a b c; do write_fits none/$name.fits 8 256 1; done
  expect 3 mfdeconv lights/[abc].fits -o none.fits --rejection-masks none
  check "masks that reject everything are told of" grep -q 'the rejection masks leave no pixel' err
  cp lights/a.fits twice
  expect 0 mfdeconv lights/[abc].fits twice/a.fits -o twice.fits --iterations 1
  check "a frame given twice counts once, and is named" grep -q 'twice/a.fits: left out, the same as lights/a.fits' err

  # astrometry in the frames' headers
  perl -0pi -e 's/END {717}/join("", map { sprintf("%-80s", $_) } "CRPIX1  =                100.5",
      "CD1_1   =                0.001", "PIXSCALE=                  1.2", "LTV1    =                -10.0",
      "SATURATE=                  1.0", "DATASEC = \x27[1:256,1:256]\x27", "CCDSEC  = \x27[1:256,1:256]\x27", "END", "")/e' \
    lights/[abc].fits
  expect 0 mfdeconv lights/broken.fits lights/?.fits -o fine.fits --iterations 1 --super-resolution 2 \
    --color luma --psf-grid 2 --star-masks --variance-maps --seed median --loss l2 --save-iterations steps
  check "the image after the iteration is saved, in the result's units" \
    cmp -s <(tail -c 1048576 steps/iteration-001.fits) <(tail -c 1048576 fine.fits)
  check "what of the header is not true of it is named" \
    grep -q "left out of the header.*: DATASEC, CCDSEC$" err
  for card in 'MF_MASK = *T' 'MF_VAR  = *T' 'MF_SR   = *2' 'MF_SRSIG= *1.1' 'MF_SRIT = *250' 'CRPIX1  = *200.5' 'CD1_1   = *0\?.0005\|CD1_1   = *5E-0*4' \
    'PIXSCALE= *0.6' 'LTM2_2  = *2' 'LTV1    = *-20.5' 'SATURATE= *0.25'; do
    check "the fine grid's header has $card" grep -qa "$card" fine.fits
  done
  check "sections of the old grid are gone" test "$(grep -ca 'DATASEC\|CCDSEC' fine.fits)" -eq 0
  expect 0 info fine.fits
  check "the fine grid has twice the pixels" grep -q '512 x 512, mono' out

  # what a user sees of it: one line, written over, on a terminal however wide
  shown() { script -qec "stty cols $1; '$limpid' mfdeconv lights/?.fits -o seen.fits --overwrite --iterations 9 \
    --min-iterations 9 ${2:-}" /dev/null </dev/null | tr '\r' '\n' | sed 's/\x1b\[K//' | grep -v '^$' >out; }
  widest() { awk '/%  / { if (length($0) > most) most = length($0) } END { print most + 0 }' out; }
  if script -qec true /dev/null </dev/null >out 2>&1; then
    for columns in 120 80 40; do
      shown $columns
      check "there is a line of $columns columns" test "$(widest)" -gt 20
      check "it is not wrapped, nor over 80" test "$(widest)" -lt $((columns < 80 ? columns : 80))
    done
    shown 80
    check "it tells of iteration, frame and update" grep -q '%  iteration 9/9, frame [0-9]*/3, update [0-9.]* %' out
    shown 80 -q
    check "quiet is quiet on a terminal, too" test "$(grep -c iteration out)" -eq 1
  else
    echo "no pseudo-terminal can be had here: what a terminal shows is not looked at"
  fi
  expect 0 mfdeconv lights/?.fits -o seen.fits --overwrite --iterations 3 --min-iterations 3 --progress json
  check "events tell of it, too" grep -q '"iteration 3/3, frame 3/3, update [0-9.]* %"' out

  # killed in the middle, and taken up again
  expect 0 mfdeconv lights/?.fits -o through.fits --iterations 60 --min-iterations 60
  "$limpid" mfdeconv lights/?.fits -o resumed.fits --iterations 60 --min-iterations 60 \
    --checkpoint run >out 2>err &
  pid=$!
  # however slow the machine: what comes before the first iteration took over ten seconds on a busy one
  until [ -e run/mfdeconv-checkpoint.fits ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  check "a killed run leaves a checkpoint and no output" test -s run/mfdeconv-checkpoint.fits -a \
    ! -e resumed.fits
  expect 2 mfdeconv lights/?.fits -o resumed.fits --iterations 60 --kappa 3 --checkpoint run --resume
  expect 0 mfdeconv lights/?.fits -o resumed.fits --iterations 60 --min-iterations 60 --checkpoint run \
    --resume
  check "the run went on where it was killed" grep -q 'going on after iteration' err
  # the histories differ: compare the pixels, which fill the end of the file
  pixels() { tail -c $((3 * 256 * 256 * 4)) "$1"; }
  check "a resumed run gives the same pixels" cmp -s <(pixels through.fits) <(pixels resumed.fits)
  check "the checkpoint is gone after the run" test ! -e run

  # a checkpoint is taken up only as it was written, and with what it was made of
  "$limpid" mfdeconv lights/?.fits -o resumed.fits --overwrite --iterations 60 --min-iterations 60 \
    --seed clean.fits --checkpoint run >out 2>err &
  pid=$!
  until [ -e run/mfdeconv-checkpoint.fits ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null
  resume=(mfdeconv lights/?.fits -o taken-up.fits --iterations 60 --min-iterations 60 --checkpoint run --resume)
  touch -r clean.fits when
  touch -d '2001-01-01' clean.fits
  expect 2 "${resume[@]}" --seed clean.fits
  check "another seed is another run" grep -q 'other frames or options' err
  touch -r when clean.fits
  printf 'damage' | dd of=run/mfdeconv-checkpoint.fits bs=1 seek=100000 conv=notrunc 2>dd.log
  expect 3 "${resume[@]}" --seed clean.fits
  check "a damaged checkpoint is told of and stays" test -e run/mfdeconv-checkpoint.fits
  check "and is called so" grep -q 'damaged' err

  # a frame that cannot be read any more in the middle of the run
  mkdir going
  for fwhm in 2.6 3.0 3.4 3.8 4.2; do
    expect 0 simulate -q --width 768 --height 768 --star-count 900 --fwhm $fwhm -o going/$fwhm.fits
  done
  cp going/3.4.fits whole.fits
  going=(mfdeconv going/*.fits --iterations 16 --min-iterations 16 --memory 155M --report gone.json --overwrite)
  "$limpid" "${going[@]}" --checkpoint kept -o gone.fits >out 2>err &
  pid=$!
  until [ -e kept/mfdeconv-checkpoint.fits ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  truncate -s 1000000 going/3.4.fits
  until grep -qa LMFL1000 kept/mfdeconv-checkpoint.fits 2>/dev/null || ! kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  cp -r kept middle
  wait "$pid"
  check "a run that loses a frame goes on, not $?" test $? -eq 0
  check "frames were read by parts" grep -q '"frames_in_memory": false' gone.json
  check "the lost frame is named once" \
    test "$(grep -c 'going/3.4.fits: left out, became unreadable in iteration [0-9]*: the file is cut short' err)" -eq 1
  check "and told of in the report" grep -q '"reason": "became unreadable in iteration' gone.json
  check "the others are used" grep -q '"frames_used": 4' gone.json
  check "the header tells of it" grep -qa 'mfdeconv left out: 3.4.fits' gone.fits
  sums() { tail -c $((3 * 768 * 768 * 4)) "$1" | cksum; }
  lost=$(sums gone.fits)
  for state in short gone whole; do
    case $state in gone) rm going/3.4.fits ;; whole) cp whole.fits going/3.4.fits ;; esac
    cp -r middle again
    expect 0 "${going[@]}" --checkpoint again --resume -o gone.fits
    check "taken up again with a frame that is $state it gives the same pixels" test "$(sums gone.fits)" = "$lost"
  done
  "$limpid" mfdeconv going/2.6.fits going/3.4.fits --iterations 16 --min-iterations 16 --memory 115M --checkpoint kept \
    -o none.fits >out 2>err &
  pid=$!
  until [ -e kept/mfdeconv-checkpoint.fits ] || ! kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  truncate -s 1000000 going/3.4.fits
  wait "$pid"
  check "one frame that is left is exit code 3, and no output" test $? -eq 3 -a ! -e none.fits
  check "and told of with the reason" grep -q '1 of 2 frames can be used.*3.4.fits: .*cut short' err
  rm -r kept middle

  # places that are refused before any work is done
  cp lights/a.fits input.fits
  expect 2 mfdeconv lights/a.fits input.fits -o none.fits --report input.fits --overwrite
  check "no report in the place of an input" cmp -s lights/a.fits input.fits
  expect 4 mfdeconv lights/?.fits -o none.fits --save-iterations steps
  check "iterations that are there are told of at once" empty out
  expect 4 mfdeconv lights/?.fits -o none.fits --save-iterations /dev/null/steps
  expect 4 mfdeconv lights/?.fits -o none.fits --checkpoint /dev/null/run

  # a stream holds the frame alone; long names are cut between characters
  expect 0 mfdeconv lights/a.fits lights/b.fits -o - --iterations 1 --min-iterations 1
  check "nothing stands behind the frame" test "$(($(stat -c %s out) % 2880))" -eq 0
  check "what is said goes to standard error" grep -q 'frames, FWHM' err
  expect 2 mfdeconv lights/a.fits lights/b.fits -o - --json
  long=$(printf 'ü%.0s' {1..40})
  cp lights/a.fits "x$long.fits"
  expect 0 mfdeconv lights/b.fits lights/c.fits "x$long.fits" -o named.fits --iterations 1 --report named.json
  check "the picture is UTF-8" iconv -f UTF-8 -t UTF-8 -o named.txt named.svg

  # a fault of the program that this one follows: scratch files left behind
  mkdir scratch away
  cp lights/[ab].fits scratch
  ( cd scratch && TMPDIR=$PWD/../away "$limpid" mfdeconv a.fits b.fits -o deep.fits --iterations 2 -q --memory 600M )
  ( cd scratch && TMPDIR=$PWD/../away "$limpid" mfdeconv a.fits b.fits -o none.fits -q --memory 1M 2>/dev/null ) || true
  check "nothing but the result is left" test "$(ls -A scratch away | tr '\n' ' ')" = "away:  scratch: a.fits b.fits deep.fits "
fi

check "nothing is left beside the outputs" test -z "$(find . -name '*.tmp*' -o -name '.?*')"
echo "$checks checks, $failures failed"
[ "$failures" -eq 0 ]
