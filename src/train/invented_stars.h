// Stars that a result shows and the truth has not.
#pragma once

#include <limpid/image.h>

namespace limpid {

/// Of a scene without stars.
struct InventedStars {
  int unseen = 0;    ///< found in the result where the wanted picture shows none
  int invented = 0;  ///< those of them of whose light the wanted picture lacks more than half
};

/// What `detect_stars` finds in the result at 5 sigma, and not in the wanted picture at 3.5 sigma
/// within three px, may still be a knot of the truth that the one picture passes for a star and
/// the other does not, or a bend of a ridge with no light of its own. It was invented when it
/// stands out at all and the wanted picture lacks more than half of its light: the mean of 3 x 3 px
/// over the median of the square from 4 to 5 px around, in the mean of the channels, at least three
/// times its noise. Half of it is judged within that noise. Both pictures have the same size and
/// noise.
InventedStars invented_stars(ConstView result, ConstView wanted, int threads = 0);

}  // namespace limpid
