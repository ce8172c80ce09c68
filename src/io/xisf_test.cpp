#include "xisf_blocks.h"
#include "xisf_codecs.h"

#include <cmath>

#include "test_support.h"

namespace limpid {
namespace {

using io::base64;

/// A whole file from its XML; attachments start at byte 4096.
std::string xisf(const std::string& content, const std::string& attachment = "") {
  const std::string xml =
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xisf version=\"1.0\">" + content + "</xisf>";
  std::string file = "XISF0100";
  for (int shift = 0; shift < 32; shift += 8) {
    file += static_cast<char>(xml.size() >> shift & 0xff);
  }
  file += std::string(4, '\0') + xml;
  file.resize(4096, '\0');
  return file + attachment;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}
std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Frame read_bytes(const std::string& bytes) {
  const TemporaryFolder folder;
  write_text(folder / "a.xisf", bytes);
  return read_frame(folder / "a.xisf");
}
std::string refusal_of(const std::string& bytes) {
  const TemporaryFolder folder;
  write_text(folder / "a.xisf", bytes);
  return refusal(folder / "a.xisf");
}

/// 2 x 1 pixels of RGB as 16-bit numbers 1 ... 6.
const std::string numbers_little{"\1\0\2\0\3\0\4\0\5\0\6\0", 12};
const std::string numbers_big{"\0\1\0\2\0\3\0\4\0\5\0\6", 12};
const std::string rgb = "<Image geometry=\"2:1:3\" sampleFormat=\"UInt16\" colorSpace=\"RGB\" ";

std::vector<int> adu(const Frame& frame) {
  std::vector<int> values;
  for (const float pixel : frame.image.pixels()) {
    values.push_back(static_cast<int>(std::lround(pixel * 65535.0F)));
  }
  return values;
}
const std::vector<int> planar{1, 2, 3, 4, 5, 6};
const std::vector<int> normal{1, 4, 2, 5, 3, 6};

TEST(Xisf, PlanarAndNormalStorageInBothByteOrders) {
  const std::string place = "location=\"attachment:4096:12\"/>";
  EXPECT_EQ(adu(read_bytes(xisf(rgb + place, numbers_little))), planar);
  EXPECT_EQ(adu(read_bytes(xisf(rgb + "pixelStorage=\"Normal\" " + place, numbers_little))),
            normal);
  EXPECT_EQ(adu(read_bytes(xisf(rgb + "byteOrder=\"big\" " + place, numbers_big))), planar);
  EXPECT_EQ(adu(read_bytes(
                xisf(rgb + "byteOrder=\"big\" pixelStorage=\"Normal\" " + place, numbers_big))),
            normal);
}

TEST(Xisf, InlineAndEmbeddedBlocks) {
  const std::string text = base64(bytes_of(numbers_little));
  const std::string hex = "010002000300040005000600";
  EXPECT_EQ(adu(read_bytes(xisf(rgb + "location=\"inline:base64\">" + text + "</Image>"))), planar);
  EXPECT_EQ(adu(read_bytes(xisf(rgb + "location=\"inline:hex\">" + hex + "</Image>"))), planar);
  EXPECT_EQ(adu(read_bytes(xisf(rgb + "location=\"embedded\"><Data encoding=\"base64\">\n  " +
                                text + "\n</Data></Image>"))),
            planar);
  EXPECT_EQ(adu(read_bytes(xisf(rgb + "location=\"embedded\"><Data encoding=\"hex\">" + hex +
                                "</Data></Image>"))),
            planar);
}

TEST(Xisf, EveryCodecWithAndWithoutShufflingAndSubblocks) {
  const Image image = ramp(1, {100, 70});
  std::vector<std::byte> raw(image.pixels().size_bytes());
  std::memcpy(raw.data(), image.pixels().data(), raw.size());
  for (const auto& [codec, names] : {std::pair{Compression::zlib, std::vector<std::string>{"zlib"}},
                                     {Compression::lz4, {"lz4", "lz4hc"}},
                                     {Compression::zstd, {"zstd"}}}) {
    for (const std::size_t item : {std::size_t{1}, sizeof(float)}) {
      for (const std::size_t most : {std::size_t{1} << 30, std::size_t{9001}}) {
        const io::PackedBlock block = io::pack_block(raw, codec, item, most);
        EXPECT_EQ(block.subblocks.empty(), most > raw.size());
        for (const std::string& name : names) {
          const std::string compression =
              name + block.compression.substr(block.compression.find_first_of("+:"));
          const Frame frame = read_bytes(xisf(
              "<Image geometry=\"100:70:1\" sampleFormat=\"Float32\" bounds=\"0:1\" "
              "location=\"attachment:4096:" +
                  std::to_string(block.bytes.size()) + "\" compression=\"" + compression + "\"" +
                  (block.subblocks.empty() ? "" : " subblocks=\"" + block.subblocks + "\"") + "/>",
              text_of(block.bytes)));
          EXPECT_TRUE(same_bits(frame.image.pixels(), image.pixels())) << compression;
        }
      }
    }
  }
}

TEST(Xisf, ShufflingIsUndoneWithARemainder) {
  const std::string text = "abcdefghij";
  EXPECT_EQ(text_of(io::shuffle(bytes_of(text), 4)), "aebfcgdhij");
  EXPECT_EQ(text_of(io::unshuffle(io::shuffle(bytes_of(text), 4), 4)), text);
}

TEST(Xisf, ChecksumsAreVerified) {
  for (const Checksum checksum : {Checksum::sha1, Checksum::sha256, Checksum::sha512,
                                  Checksum::sha3_256, Checksum::sha3_512}) {
    for (const Compression compression : {Compression::none, Compression::zstd}) {
      const TemporaryFolder folder;
      write_frame(folder / "a.xisf", {ramp(1, {64, 64}), {}},
                  {.compression = compression, .checksum = checksum});
      EXPECT_NO_THROW(read_frame(folder / "a.xisf"));
      std::string bytes = read_text(folder / "a.xisf");
      bytes[4100] = static_cast<char>(bytes[4100] ^ 1);
      write_text(folder / "b.xisf", bytes);
      EXPECT_NE(refusal(folder / "b.xisf").find("checksum"), std::string::npos);
    }
  }
  // The digest of "abc" from FIPS 180-4: the name is that of XISF, the number that of the standard.
  EXPECT_EQ(io::block_checksum(bytes_of("abc"), Checksum::sha1),
            "sha-1:a9993e364706816aba3e25717850c26c9cd0d89d");
}

TEST(Xisf, SeveralImagesCanBeChosen) {
  const TemporaryFolder folder;
  const auto image = [](const char* id, int position) {
    return std::string("<Image id=\"") + id +
           "\" geometry=\"1:1:1\" sampleFormat=\"UInt16\" location=\"attachment:" +
           std::to_string(position) + ":2\"/>";
  };
  write_text(folder / "a.xisf",
             xisf(image("light", 4096) + image("rejection", 4098), std::string("\7\0\x9\0", 4)));
  const FrameInfo info = read_info(folder / "a.xisf");
  EXPECT_EQ(info.image_count, 2);
  EXPECT_EQ(info.image_names, (std::vector<std::string>{"light", "rejection"}));
  EXPECT_EQ(adu(read_frame(folder / "a.xisf")), (std::vector<int>{7}));
  EXPECT_EQ(adu(read_frame(folder / "a.xisf", {.image = 1})), (std::vector<int>{9}));
}

/// Three images: one plain, one packed with a checksum, a keyword and a shared property, one whose
/// pixels lie in another file.
std::string three_images() {
  const std::string noise = "abcdefgh12345678";
  const io::PackedBlock packed =
      io::pack_block({bytes_of(noise).begin(), bytes_of(noise).end()}, Compression::zlib, 2);
  const std::string content =
      "<Property uid=\"p\" id=\"Shared\" type=\"Int32\" value=\"5\"/>"
      "<Image id=\"light\" geometry=\"1:1:1\" sampleFormat=\"UInt16\" "
      "location=\"attachment:4096:2\"/>"
      "<Image id=\"weights\" geometry=\"4:2:1\" sampleFormat=\"UInt16\" compression=\"" +
      packed.compression + "\" checksum=\"" + io::block_checksum(packed.bytes, Checksum::sha256) +
      "\" location=\"attachment:4098:" + std::to_string(packed.bytes.size()) +
      "\"><Reference ref=\"p\"/><FITSKeyword name=\"OBJECT\" value=\"'M31'\" "
      "comment=\"what\"/></Image>"
      "<Image id=\"far\" geometry=\"1:1:1\" sampleFormat=\"UInt16\" "
      "location=\"path(@header_dir/a.xisb):0x1\"/>";
  return xisf(content, std::string("\7\0", 2) + text_of(packed.bytes));
}

TEST(Xisf, OtherImagesOfTheFileAreCarriedOver) {
  const TemporaryFolder folder;
  write_text(folder / "a.xisf", three_images());
  std::vector<std::string> notes;
  Progress progress;
  progress.note = [&](std::string_view text) { notes.emplace_back(text); };
  write_frame(folder / "b.xisf", read_frame(folder / "a.xisf"), {}, progress);
  ASSERT_EQ(notes.size(), 1U);  // of the third image
  EXPECT_NE(notes[0].find("another file"), std::string::npos);

  EXPECT_EQ(read_info(folder / "b.xisf").image_count, 2);
  EXPECT_EQ(adu(read_frame(folder / "b.xisf")), (std::vector<int>{7}));
  const Frame before = read_frame(folder / "a.xisf", {.image = 1});
  const Frame after = read_frame(folder / "b.xisf", {.image = 1});
  EXPECT_TRUE(same_bits(after.image.pixels(), before.image.pixels()));
  EXPECT_EQ(after.metadata.card("OBJECT"), "M31");
  ASSERT_EQ(after.metadata.properties.size(), 1U);
  EXPECT_EQ(after.metadata.properties[0].value, "5");
  const FrameInfo info = read_info(folder / "b.xisf", {.image = 1});
  EXPECT_EQ(info.compression, "zlib+sh");
  EXPECT_EQ(info.checksum, "sha-256");
  EXPECT_EQ(info.image_names[1], "weights");
}

TEST(Xisf, TheChosenImageComesFirstAndItsOwnFileMayBeReplaced) {
  const TemporaryFolder folder;
  const auto path = folder / "a.xisf";
  write_text(path, three_images());
  write_frame(path, read_frame(path, {.image = 1}), {.overwrite = true});
  EXPECT_EQ(read_info(path).size, (Size{4, 2}));
  EXPECT_EQ(adu(read_frame(path, {.image = 1})), (std::vector<int>{7}));
}

TEST(Xisf, OtherImagesThatCannotBeKeptAreToldOf) {
  const TemporaryFolder folder;
  write_text(folder / "a.xisf", three_images());
  const Frame frame = read_frame(folder / "a.xisf");
  std::vector<std::string> notes;
  Progress progress;
  progress.note = [&](std::string_view text) { notes.emplace_back(text); };
  write_frame(folder / "b.fits", frame, {}, progress);
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_NE(notes[0].find("2 more images"), std::string::npos);
  std::filesystem::remove(folder / "a.xisf");
  write_frame(folder / "b.xisf", frame, {}, progress);
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_NE(notes[1].find("a.xisf"), std::string::npos);
  EXPECT_EQ(read_info(folder / "b.xisf").image_count, 1);
}

TEST(Xisf, PropertiesOfTheWholeFileAreKept) {
  const Frame frame = read_bytes(
      xisf("<Property id=\"Observer\" type=\"Int32\" value=\"5\"/>"
           "<Image geometry=\"1:1:1\" sampleFormat=\"UInt16\" location=\"attachment:4096:2\">"
           "<Property id=\"a\" type=\"Int32\" value=\"6\"/></Image>",
           std::string(2, '\0')));
  ASSERT_EQ(frame.metadata.properties.size(), 2U);
  EXPECT_EQ(frame.metadata.properties[1].id, "Observer");
}

TEST(Xisf, AlphaIsDroppedWithANote) {
  const Frame frame =
      read_bytes(xisf("<Image geometry=\"1:1:2\" sampleFormat=\"UInt16\" colorSpace=\"Gray\" "
                      "location=\"attachment:4096:4\"/>",
                      std::string("\7\0\x9\0", 4)));
  EXPECT_EQ(frame.image.channels(), 1);
  ASSERT_EQ(frame.metadata.notes.size(), 1U);
}

TEST(Xisf, BoundsTellTheUnits) {
  const auto scale = [](const std::string& bounds) {
    return read_bytes(xisf("<Image geometry=\"1:1:1\" sampleFormat=\"Float32\" " + bounds +
                               "location=\"attachment:4096:4\"/>",
                           std::string("\0\0\0\x3f", 4)))  // 0.5
        .metadata.scale;
  };
  EXPECT_EQ(scale("bounds=\"0:1\" "), 1.0);
  EXPECT_EQ(scale("bounds=\"0:65535\" "), 65536.0);
  EXPECT_EQ(scale(""), 1.0);
}

TEST(Xisf, PropertiesThumbnailAndDisplaySettingsSurvive) {
  const TemporaryFolder folder;
  Frame frame{ramp(3, {8, 6}), {}};
  Metadata& metadata = frame.metadata;
  const std::string numbers(4000 * 8, '\5');
  metadata.properties = {
      {"Observation:Object:Name", "String", "NGC 7000 <&> Ünï", "", "a comment", {}, {}},
      {"Instrument:ExposureTime", "Float32", "300", "", "", {}, {}},
      {"Observation:Time:Start", "TimePoint", "2026-01-07T07:54:05Z", "", "", {}, {}},
      {"PCL:Flag", "Boolean", "1", "", "", {}, {}},
      {"PCL:AstrometricSolution:LinearTransformationMatrix",
       "F64Matrix",
       "",
       "",
       "",
       std::vector<std::byte>(32, std::byte{7}),
       {2, 2}},
      {"PCL:Spline",
       "F64Vector",
       "",
       "",
       "",
       {bytes_of(numbers).begin(), bytes_of(numbers).end()},
       {4000}}};
  metadata.thumbnail = {
      {2, 1},
      3,
      {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}, std::byte{6}}};
  metadata.xisf_elements = {"<Resolution horizontal=\"72\" vertical=\"72\" unit=\"inch\"/>",
                            "<DisplayFunction m=\"0.5:0.5:0.5:0.5\" name=\"STF\"/>"};
  write_frame(folder / "a.xisf", frame, {.checksum = Checksum::sha256});
  const Metadata back = read_frame(folder / "a.xisf").metadata;
  ASSERT_EQ(back.properties.size(), metadata.properties.size());
  for (std::size_t i = 0; i < back.properties.size(); ++i) {
    const Property &a = back.properties[i], &b = metadata.properties[i];
    EXPECT_EQ(a.id, b.id);
    EXPECT_EQ(a.type, b.type);
    EXPECT_EQ(a.value, b.value);
    EXPECT_EQ(a.comment, b.comment);
    EXPECT_EQ(a.data, b.data);
    EXPECT_EQ(a.shape, b.shape);
  }
  EXPECT_EQ(back.thumbnail.size, metadata.thumbnail.size);
  EXPECT_EQ(back.thumbnail.samples, metadata.thumbnail.samples);
  ASSERT_EQ(back.xisf_elements.size(), 2U);
  EXPECT_NE(back.xisf_elements[1].find("STF"), std::string::npos);
}

TEST(Xisf, BigEndianVectorsBecomeLittleEndian) {
  const Frame frame = read_bytes(
      xisf("<Image geometry=\"1:1:1\" sampleFormat=\"UInt16\" location=\"attachment:4096:2\">"
           "<Property id=\"a\" type=\"I16Vector\" length=\"2\" byteOrder=\"big\" "
           "location=\"inline:hex\">00010203</Property></Image>",
           std::string(2, '\0')));
  EXPECT_EQ(text_of(frame.metadata.properties.at(0).data), std::string("\1\0\3\2", 4));
}

TEST(Xisf, SharedElementsAreFoundByReference) {
  const Frame frame = read_bytes(
      xisf("<Property uid=\"p1\" id=\"a\" type=\"Int32\" value=\"5\"/>"
           "<Image geometry=\"1:1:1\" sampleFormat=\"UInt16\" location=\"attachment:4096:2\">"
           "<Reference ref=\"p1\"/><Reference ref=\"none\"/></Image>",
           std::string(2, '\0')));
  ASSERT_EQ(frame.metadata.properties.size(), 1U);
  EXPECT_EQ(frame.metadata.properties[0].value, "5");
}

TEST(Xisf, DamagedOrnamentsAreLeftOutWithANote) {
  const Frame frame = read_bytes(
      xisf("<Image geometry=\"1:1:1\" sampleFormat=\"UInt16\" location=\"attachment:4096:2\">"
           "<ICCProfile location=\"attachment:99999:500\"/></Image>",
           std::string(2, '\0')));
  EXPECT_TRUE(frame.metadata.icc_profile.empty());
  ASSERT_EQ(frame.metadata.notes.size(), 1U);
  EXPECT_NE(frame.metadata.notes[0].find("ICCProfile"), std::string::npos);
}

TEST(Xisf, MosaicsAreRefused) {
  EXPECT_NE(refusal_of(xisf("<Image geometry=\"2:2:1\" sampleFormat=\"UInt8\" "
                            "location=\"attachment:4096:4\"><ColorFilterArray pattern=\"RGGB\" "
                            "width=\"2\" height=\"2\"/></Image>",
                            "1234"))
                .find("RGGB"),
            std::string::npos);
}

TEST(Xisf, ExternalBlocksAreRefusedClearly) {
  for (const char* location : {"url(http://example.org/a.xisb)", "path(@header_dir/a.xisb):0x1"}) {
    EXPECT_NE(refusal_of(xisf(rgb + "location=\"" + location + "\"/>")).find("another file"),
              std::string::npos);
  }
}

TEST(Xisf, NonsenseIsRefused) {
  const std::string gray = "<Image geometry=\"2:2:1\" sampleFormat=\"UInt8\" ";
  const std::string four = "1234";
  for (const std::string& content :
       {std::string(),
        std::string("<Image/>"),
        gray + "/>",
        gray + "location=\"attachment:4096:3\"/>",
        gray + "location=\"attachment:4096:5\"/>",
        gray + "location=\"attachment:-1:4\"/>",
        gray + "location=\"attachment:18446744073709551615:4\"/>",
        gray + "location=\"attachment:4096\"/>",
        gray + "location=\"inline:base64\">***</Image>",
        gray + "location=\"attachment:4096:4\" compression=\"zip:4\"/>",
        gray + "location=\"attachment:4096:4\" compression=\"zlib\"/>",
        gray + "location=\"attachment:4096:4\" compression=\"zlib:4\"/>",
        gray + "location=\"attachment:4096:4\" compression=\"zstd:99999999999\"/>",
        gray + "location=\"attachment:4096:4\" compression=\"lz4+sh:4:0\"/>",
        gray + "location=\"attachment:4096:4\" compression=\"lz4:4\" subblocks=\"2,2\"/>",
        gray + "location=\"attachment:4096:4\" compression=\"lz4:4\" "
               "subblocks=\"18446744073709551615,2:2,2\"/>",
        gray + "location=\"attachment:4096:4\" checksum=\"md5:00\"/>",
        std::string(
            "<Image geometry=\"2:2\" sampleFormat=\"UInt8\" location=\"attachment:4096:4\"/>"),
        std::string(
            "<Image geometry=\"0:2:1\" sampleFormat=\"UInt8\" location=\"attachment:4096:4\"/>"),
        std::string("<Image geometry=\"99999:99999:3\" sampleFormat=\"Float64\" "
                    "location=\"attachment:4096:4\"/>"),
        std::string("<Image geometry=\"2:2:1\" sampleFormat=\"Complex32\" "
                    "location=\"attachment:4096:4\"/>"),
        std::string("<Image geometry=\"2:2:1\" sampleFormat=\"UInt8\" colorSpace=\"CIELab\" "
                    "location=\"attachment:4096:4\"/>")}) {
    SCOPED_TRACE(content);
    refusal_of(xisf(content, four));
  }
  refusal_of("XISF0100");
  refusal_of(std::string("XISF0100\xff\xff\xff\xff\0\0\0\0<xisf>", 22));
  refusal_of(xisf("<Image>").substr(0, 100));
}

}  // namespace
}  // namespace limpid
