# SPDX-License-Identifier: MIT
"""The cloud half of volrescue on EC2: copy the root, repair the copy on a helper, swap it in, keep the old root."""
