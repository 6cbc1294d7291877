#!/usr/bin/env python3
"""Fetches the public data that recipes and tests name, checks it, and lays it out as they expect.

  python3 data/fetch.py [--out ../shared/data] [banking77 wikitext2 stories260K novels]

Files whose checksum is right already are left alone; one that is wrong after fetching is an error and is not kept.
Needs curl, and zstd for novels. Tests never run this: where the data is missing they skip and say so.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

GITHUB = "https://raw.githubusercontent.com"
HUB = "https://huggingface.co"

# folder -> licence, [(file, address, SHA-256)]
FILES = {
    "banking77": ("CC BY 4.0, PolyAI", [
        ("train.csv", f"{GITHUB}/PolyAI-LDN/task-specific-datasets/master/banking_data/train.csv",
         "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b"),
        ("test.csv", f"{GITHUB}/PolyAI-LDN/task-specific-datasets/master/banking_data/test.csv",
         "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d"),
        ("categories.json", f"{GITHUB}/PolyAI-LDN/task-specific-datasets/master/banking_data/categories.json",
         "53261da888122daf2d120d925458631d9619e15d82e56052e7a42e535ce32b63"),
    ]),
    "wikitext2": ("CC BY-SA 3.0", [
        ("valid.txt", f"{GITHUB}/pytorch/examples/main/word_language_model/data/wikitext-2/valid.txt",
         "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
        ("test.txt", f"{GITHUB}/pytorch/examples/main/word_language_model/data/wikitext-2/test.txt",
         "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
    ]),
    "stories260K": ("MIT, Andrej Karpathy", [
        ("stories260K.bin", f"{HUB}/karpathy/tinyllamas/resolve/main/stories260K/stories260K.bin",
         "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696"),
        ("tok512.model", f"{HUB}/karpathy/tinyllamas/resolve/main/stories260K/tok512.model",
         "822b28dcdee7b4f2de3332e0066a3f33688e08afb26e9e7808a58aa6426bd55b"),
    ]),
}

# Novels published before 1931 (public domain in the US) and how they are split; one JSON object a line, in this order.
NOVELS = f"{GITHUB}/computationalstylistics/100_english_novels/master/corpus"
SPLITS = {
    "valid": ("63d9e9e166d12d8f60dcc7ceb9e237665a5f6623e89aafa8266bc1ff674b2259",
              "Anon_Clara_1864 Trollope_Warden_1855 Stevenson_Arrow_1888 Dickens_Bleak_1853"),
    "test": ("f161931d4804ccb5278bd5cb65967ae56cc58a5988881ac96b1a847270358696",
             "Barclay_Postern_1911 Lee_Albany_1884 Corelli_Romance_1886 Burnett_Princess_1905"),
    "train": ("97b23711cb7ce4765f5bece67e7f77cc363f5c0bdff95037306415fa9b0da49a", """
        Corelli_Innocent_1914 Lytton_Novel_1853 Ford_Post_1926 Stevenson_Catriona_1893 Chesterton_Thursday_1908 Chesterton_Napoleon_1904
        Dickens_Expectations_1861 Lawrence_Serpent_1926 Schreiner_Farm_1883 Ford_Soldier_1915 Blackmore_Erema_1877 Lee_Brown_1884
        Galsworthy_Man_1906 Kipling_Kim_1901 Wcollins_Woman_1860 Conrad_Almayer_1895 Forster_View_1908 Galsworthy_Saints_1919
        Burnett_Garden_1911 Stevenson_Treasure_1883 Braddon_Quest_1871 Meredith_Marriage_1895 Bennet_Imperial_1930 Forster_Howards_1910
        Eliot_Adam_1859 Hardy_Madding_1874 Burnett_Lord_1886 Dickens_Oliver_1839 Haggard_Mines_1885 Lytton_What_1858 Haggard_Sheallan_1921
        Ward_Ashe_1905 Bennet_Babylon_1902 Blackmore_Lorna_1869 Lawrence_Peacock_1911 Lytton_Kenelm_1873 Morris_Roots_1890
        Conrad_Nostromo_1904 Conrad_Rover_1923 Cbronte_Villette_1853 Haggard_She_1887 Kipling_Captains_1896 Doyle_Hound_1902
        Meredith_Richmond_1871 Lawrence_Women_1920 Kipling_Light_1891 Trollope_Phineas_1869 Ford_Girl_1907 Eliot_Felix_1866
        Doyle_Micah_1889 James_Ambassadors_1903 Corelli_Satan_1895 Bennet_Helen_1910 James_Tragic_1890 Wcollins_Legacy_1889
        Gaskell_Ruth_1855 Gissing_Warburton_1903 Barclay_Ladies_1917 Cbronte_Shirley_1849 Gaskell_Lovers_1863 Barclay_Rosary_1909
        Lee_Penelope_1903 Cbronte_Jane_1847 Woolf_Lighthouse_1927 Hardy_Tess_1891 Gissing_Unclassed_1884 Blackmore_Springhaven_1887
        Schreiner_Trooper_1897 Braddon_Audley_1862 Woolf_Night_1919"""),
}


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def download(address):
    with tempfile.NamedTemporaryFile() as place:
        command = ["curl", "--fail", "--silent", "--show-error", "--location", "--retry", "3", "--output", place.name, address]
        if subprocess.run(command).returncode != 0:
            sys.exit(f"error: {address}, expected to be fetched, received curl's failure above")
        return pathlib.Path(place.name).read_bytes()


def keep(file, content, expected):
    if sha256(content) != expected:
        sys.exit(f"error: {file}, expected SHA-256 {expected}, received {sha256(content)}, the source has changed")
    partial = file.with_name(file.name + ".part")
    partial.write_bytes(content)
    partial.replace(file)
    print(f"{file}: fetched and checked")


def fetch_files(folder, name):
    for file, address, expected in FILES[name][1]:
        place = folder / file
        if place.exists() and sha256(place.read_bytes()) == expected:
            print(f"{place}: there already")
        else:
            keep(place, download(address), expected)


def fetch_novels(folder):
    for split, (expected, names) in SPLITS.items():
        place = folder / f"{split}.jsonl"
        packed = folder / f"{split}.jsonl.zst"
        if (place.exists() and sha256(place.read_bytes()) == expected) or (
                packed.exists() and sha256(subprocess.run(["zstd", "-dc", packed], stdout=subprocess.PIPE).stdout) == expected):
            print(f"{place}: there already")
            continue
        lines = []
        for name in names.split():
            author, title, year = name.split("_")
            text = download(f"{NOVELS}/{name}.txt").decode("utf-8-sig").replace("\r\n", "\n")
            lines.append(json.dumps({"author": author, "title": title, "year": int(year), "text": text}, ensure_ascii=False) + "\n")
        keep(place, "".join(lines).encode(), expected)
        if split == "train" and subprocess.run(["zstd", "-q", "-19", "--rm", "-f", place]).returncode != 0:
            sys.exit(f"error: {place}, expected zstd to compress it, received its failure above, install zstd")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent.parent / "shared" / "data")
    options.add_argument("names", nargs="*", help=f"of {', '.join(FILES)}, novels; all, if none is named")
    given = options.parse_args()
    for name in given.names:
        if name not in FILES and name != "novels":
            options.error(f"no data set '{name}', known: {', '.join(FILES)}, novels")
    for name in given.names or [*FILES, "novels"]:
        folder = given.out / name
        folder.mkdir(parents=True, exist_ok=True)
        if name == "novels":
            fetch_novels(folder)
        else:
            fetch_files(folder, name)


if __name__ == "__main__":
    main()
